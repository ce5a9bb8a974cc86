"""What orchestrators on one store agree on: lives, leases, fences, locks and sessions."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from conformance.store.samples import NOON, agent_row, append, attempt_row, execution_row
from opsconductor.orchestrator.store.base import PutAgent, PutAttempt, PutExecution
from opsconductor.orchestrator.store.rows import SessionRow
from opsconductor.orchestrator.store.sharing import (
    ClaimExecutions,
    DropLease,
    Fence,
    FreeHolds,
    JoinReplicas,
    LeaveReplicas,
    LockTaken,
    OwnerLost,
    PassLease,
    PutSessions,
    RenewReplica,
    TakeHold,
    TakeLease,
)
from opsconductor.orchestrator.store.store import Store

if TYPE_CHECKING:
    from opsconductor.orchestrator.store.base import Op
    from opsconductor.orchestrator.store.news import News

LONG = timedelta(hours=1)
OVER = timedelta(0)
ONE = "exe_000001"


async def join(store: Store, *names: str, lease: timedelta = LONG) -> None:
    for name in names:
        await store.commit(JoinReplicas(name, f"{name}:7443", lease))


async def put(store: Store, *numbers: int) -> None:
    for number in numbers:
        await store.commit(PutExecution(execution_row(number)))


async def claim(store: Store, name: str, limit: int = 10, *, lapsed: bool = True) -> list[str]:
    (found,) = await store.commit(ClaimExecutions(name, limit, lapsed=lapsed))
    return list(found)


async def replicas(store: Store) -> list[str]:
    return sorted(row.replica_id for row in (await store.look("")).replicas)


async def test_who_joins_is_seen_until_it_leaves(store: Store) -> None:
    await join(store, "a", "b")
    assert await replicas(store) == ["a", "b"]
    assert (await store.look("a")).replicas[0].address == "a:7443"
    await store.commit(LeaveReplicas("a"))
    assert await replicas(store) == ["b"]


async def test_a_renewal_tells_whether_one_still_lives(store: Store) -> None:
    await join(store, "a")
    assert await store.commit(RenewReplica("a", LONG, 7)) == [True]
    assert (await store.look("a")).replicas[0].version == 7
    await store.commit(LeaveReplicas("a"))
    assert await store.commit(RenewReplica("a", LONG, 8)) == [False]
    assert await replicas(store) == []


async def test_who_starts_on_an_address_replaces_who_was_there(store: Store) -> None:
    await join(store, "a", "b")
    await store.commit(JoinReplicas("c", "a:7443", LONG, instead=True))
    await store.commit(JoinReplicas("d", "b:7443", LONG))
    assert await replicas(store) == ["b", "c", "d"]


async def test_what_nobody_moves_is_claimed_once(store: Store) -> None:
    await join(store, "a", "b")
    await put(store, 1, 2, 3)
    await store.commit(PutExecution(execution_row(4, open=False)))
    assert await claim(store, "a", 2) == ["exe_000001", "exe_000002"]
    assert await claim(store, "b") == ["exe_000003"]
    assert await claim(store, "a") == []
    assert dict((await store.look("a")).moved) == {"exe_000001": 1, "exe_000002": 1}
    assert await store.owner("exe_000003") == "b"


async def test_an_execution_that_ends_is_not_claimed_by_the_transaction_that_ends_it(
    store: Store,
) -> None:
    await join(store, "a")
    await put(store, 1)
    await claim(store, "a")
    ended = PutExecution(execution_row(1, open=False, last_seq=2))
    *_, claimed = await store.commit(ended, DropLease(ONE), ClaimExecutions("a", 10))
    assert claimed == ()
    assert await store.owner(ONE) == ""
    assert dict((await store.look("a")).moved) == {}


async def test_an_execution_that_ends_and_is_opened_again_at_once_keeps_its_new_lease(
    store: Store,
) -> None:
    await join(store, "a", "b")
    await put(store, 1)
    await store.commit(TakeLease(ONE, "a"))
    await store.commit(DropLease(ONE), TakeLease(ONE, "b"))
    assert await store.owner(ONE) == "b"


async def test_who_is_not_there_claims_nothing(store: Store) -> None:
    await put(store, 1)
    assert await claim(store, "ghost") == []
    await join(store, "late", lease=OVER)
    assert await claim(store, "late") == []
    assert await store.owner(ONE) == ""


async def test_only_a_lapsed_replica_loses_what_it_moves(store: Store) -> None:
    await join(store, "a", "b")
    await put(store, 1)
    await claim(store, "a")
    assert await claim(store, "b") == []
    await store.commit(RenewReplica("a", OVER))
    assert await claim(store, "b", lapsed=False) == []
    assert await claim(store, "b") == [ONE]
    assert await replicas(store) == ["b"]
    assert await store.commit(RenewReplica("a", LONG)) == [False]


async def test_who_leaves_leaves_all_it_moved(store: Store) -> None:
    await join(store, "a", "b")
    await put(store, 1, 2)
    await claim(store, "a")
    await store.commit(LeaveReplicas("a"))
    assert await claim(store, "b", lapsed=False) == ["exe_000001", "exe_000002"]


async def test_a_lease_is_handed_to_a_living_replica_by_its_holder_only(store: Store) -> None:
    await join(store, "a", "b")
    await put(store, 1)
    await store.commit(TakeLease(ONE, "a"))
    assert await store.commit(PassLease(ONE, "b", "a")) == [False]
    assert await store.commit(PassLease(ONE, "a", "nobody")) == [False]
    assert await store.commit(PassLease(ONE, "a", "b")) == [True]
    assert (await store.chain(ONE, 1, 10)).owner == "b"
    await store.commit(DropLease(ONE))
    assert await store.owner(ONE) == ""


async def test_a_fenced_call_happens_only_for_the_owner(store: Store) -> None:
    await join(store, "a", "b")
    await put(store, 1)
    await store.commit(TakeLease(ONE, "a"))
    calls: list[tuple[Op, ...]] = [
        (append(ONE, 1), Fence(ONE, "a")),
        (append("exe_2", 1), Fence(ONE, "b")),
        (append("exe_3", 1),),
    ]
    outcomes = await asyncio.gather(
        *(store.commit(*call) for call in calls), return_exceptions=True
    )
    assert outcomes[0] == [None, None]
    assert isinstance(outcomes[1], OwnerLost)
    assert outcomes[2] == [None]
    assert await store.events("exe_2") == ()
    with pytest.raises(OwnerLost):
        await store.commit(append("exe_9", 1), Fence("exe_9", "a"))


async def test_a_lock_has_as_many_places_as_it_allows(store: Store) -> None:
    for name in ("att_1", "att_2"):
        await store.commit(TakeHold("key", 2, name))
    await store.commit(TakeHold("key", 2, "att_1"))
    with pytest.raises(LockTaken) as caught:
        await store.commit(append("exe_1", 1), TakeHold("key", 2, "att_3"))
    assert caught.value.lock_key == "key"
    assert await store.events("exe_1") == ()
    await store.commit(TakeHold("other", 1, "att_3"))
    assert dict((await store.load("")).holds) == {"key": 2, "other": 1}


async def test_what_a_call_gives_back_is_free_for_it(store: Store) -> None:
    await store.commit(TakeHold("key", 1, "att_1"))
    await store.commit(FreeHolds("att_1"), TakeHold("key", 1, "att_2"))
    with pytest.raises(LockTaken):
        await store.commit(TakeHold("key", 1, "att_1"))


async def test_callers_who_want_one_lock_at_once_get_it_one_by_one(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(store.commit(TakeHold("key", 1, f"att_{n}")) for n in range(5)), return_exceptions=True
    )
    assert sum(outcome == [None] for outcome in outcomes) == 1
    assert sum(isinstance(outcome, LockTaken) for outcome in outcomes) == 4


async def test_load_tells_what_others_attempts_hold(store: Store) -> None:
    await join(store, "a", "b")
    await put(store, 1, 2)
    await store.commit(TakeLease("exe_000001", "a"), TakeLease("exe_000002", "b"))
    for number in (1, 2):
        row = attempt_row(number, execution_id=f"exe_00000{number}", state="running")
        await store.commit(PutAttempt(row), TakeHold(f"key-{number}", 1, row.attempt_id))
    load = await store.load("a")
    assert dict(load.holds) == {"key-2": 1}
    assert sum(load.attempts.values()) == 1
    assert sum((await store.load("")).attempts.values()) == 2


async def test_sessions_are_those_of_replicas_that_are_there(store: Store) -> None:
    await join(store, "a", "b")
    await store.commit(PutAgent(agent_row()))
    rows = [SessionRow("agt", name, 1, "online") for name in ("a", "b")]
    for row in rows:
        await store.commit(PutSessions(row.replica_id, (row,)))
    await store.commit(PutSessions("a", (SessionRow("agt", "a", 2, "suspect"),)))
    assert {row.state for row in await store.sessions()} == {"online", "suspect"}
    await store.commit(PutSessions("a", (), ("agt",)))
    assert await store.sessions() == (rows[1],)
    await store.commit(LeaveReplicas("b"))
    assert await store.sessions() == ()


async def test_two_orchestrators_that_claim_at_once_share_without_overlap(
    postgres_url: str,
) -> None:
    stores = [await Store.open(postgres_url, clock=lambda: NOON) for _ in range(3)]
    await join(stores[0], "r0", "r1", "r2")
    await put(stores[0], *range(1, 61))

    async def take(number: int) -> list[str]:
        found: list[str] = []
        while more := await claim(stores[number], f"r{number}", 7):
            found += more
        return found

    shares = await asyncio.gather(*(take(number) for number in range(3)))
    assert sorted(itertools.chain(*shares)) == [f"exe_{n:06}" for n in range(1, 61)]
    for store in stores:
        await store.close()


async def test_two_orchestrators_never_hold_one_place(postgres_url: str) -> None:
    stores = [await Store.open(postgres_url, clock=lambda: NOON) for _ in range(2)]
    inside = 0

    async def work(number: int) -> int:
        nonlocal inside
        entered = 0
        while entered < 20:
            attempt = f"att_{number}"
            try:
                await stores[number].commit(TakeHold("key", 1, attempt))
            except LockTaken:
                continue
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1
            await stores[number].commit(FreeHolds(attempt))
            entered += 1
        return entered

    assert sum(await asyncio.gather(work(0), work(1))) == 40
    for store in stores:
        await store.close()


async def test_others_hear_what_was_written_and_not_what_was_not(postgres_url: str) -> None:
    one, two = [await Store.open(postgres_url, clock=lambda: NOON) for _ in range(2)]
    heard: list[News] = []
    arrived = asyncio.Event()

    def hear(news: News) -> None:
        heard.append(news)
        arrived.set()

    own: list[News] = []
    one.listen(own.append)
    two.listen(hear)
    await arrived.wait()  # once connected, whatever was told before may have been missed
    await join(one, "a")
    await one.commit(append("exe_1", 1), FreeHolds("att_1"))
    with pytest.raises(OwnerLost):
        await one.commit(append("exe_2", 1), Fence("exe_2", "a"))
    await one.commit(append("exe_3", 1))
    while not any("exe_3" in news.executions for news in heard):
        arrived.clear()
        await arrived.wait()
    told = {name for news in heard for name in news.executions}
    assert told == {"exe_1", "exe_3"}
    assert any(news.locks for news in heard)
    assert all(not news.executions for news in own)
    for store in (one, two):
        await store.close()
