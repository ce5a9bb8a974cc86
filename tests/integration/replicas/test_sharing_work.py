"""Several orchestrators on one store: each execution is moved by one, whatever happens to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from helpers.plans import AGAIN, error, look, restart, write
from helpers.streets import connected, events
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.engine.messages import Report
from opsconductor.rpc.errors import InvalidTransition

if TYPE_CHECKING:
    from helpers.streets import Street


async def test_only_who_took_a_submission_moves_and_sends_it(street: Street) -> None:
    one, two = await connected(street)
    run = await one.submit(look("a"))
    assert one.lines["a1"].steps == ["a"]
    await one.end(run, "a")
    assert await two.ended(run) == "completed"
    assert two.lines["a1"].steps == []


async def test_a_report_to_another_orchestrator_is_taken_and_the_owner_goes_on(
    street: Street,
) -> None:
    one, two = await connected(street)
    run = await one.submit(look("a"), write("b"))
    attempt = await one.live(run, "a")
    await two.agents.report(two.member(), Report(attempt.attempt_id, "completed"))
    await street.until(lambda: one.lines["a1"].steps == ["a", "b"], "the owner grants what follows")
    assert two.lines["a1"].acknowledged == [attempt.attempt_id]
    assert two.lines["a1"].steps == []


async def test_what_others_write_is_found_without_any_hint(street: Street) -> None:
    one, two = await connected(street)
    for house in (one, two):
        await street.deafen(house)
    run = await one.submit(look("a"), write("b"))
    attempt = await one.live(run, "a")
    await two.agents.report(two.member(), Report(attempt.attempt_id, "completed"))
    await street.until(lambda: one.lines["a1"].steps == ["a", "b"], "the owner grants what follows")


async def test_an_orchestrator_whose_lease_ran_out_grants_nothing_until_it_is_renewed(
    street: Street,
) -> None:
    (one,) = await connected(street, 1)
    run = await one.submit(look("a"), write("b"))
    attempt = await one.live(run, "a")
    await street.freeze(one)
    boottime, one.replica.boottime = one.replica.boottime, lambda: float("inf")
    assert not one.engine.moves(run.execution_id)
    await one.agents._reporting._end(
        one.member(), run.execution_id, Report(attempt.attempt_id, "completed")
    )
    assert one.lines["a1"].steps == ["a"]
    one.replica.boottime = boottime
    await street.wake(one)
    await street.until(lambda: one.lines["a1"].steps == ["a", "b"], "it goes on")


async def test_a_start_told_only_to_another_orchestrator_is_on_record(street: Street) -> None:
    one, two = await connected(street)
    run = await one.submit(look("a"))
    attempt = await one.live(run, "a")
    await two.agents.report(two.member(), Report(attempt.attempt_id, "running"))
    await one.until(run, lambda state: state.attempts[attempt.attempt_id].state == "running")
    assert (await events(one, run)).count("attempt_started") == 1


async def test_the_same_report_to_all_is_written_once(street: Street) -> None:
    houses = await connected(street, 3)
    run = await houses[0].submit(look("a"))
    attempt = await houses[0].live(run, "a")
    report = Report(attempt.attempt_id, "completed")
    await asyncio.gather(*(house.agents.report(house.member(), report) for house in houses))
    await street.until(
        lambda: all(house.lines["a1"].acknowledged for house in houses), "everybody acknowledged"
    )
    assert (await events(houses[0], run)).count("attempt_finished") == 1


async def test_a_cancel_told_to_another_orchestrator_reaches_the_agent(street: Street) -> None:
    one, two = await connected(street)
    run = await one.submit(restart("a"))
    attempt = await one.live(run, "a")
    await two.engine.command(
        run.execution_id, lambda state, _: commands.cancel(state, "bob", "enough")
    )
    await street.until(lambda: one.lines["a1"].cancelled, "the owner sends the cancel")
    assert one.lines["a1"].cancelled == [attempt.attempt_id]


async def test_a_finished_execution_is_rolled_back_through_any_orchestrator(
    street: Street,
) -> None:
    one, two = await connected(street)
    run = await one.submit(write("a"))
    await one.end(run, "a", captured={"existed": False})
    await two.engine.command(
        run.execution_id, lambda state, _: commands.rollback(state, "bob", "no")
    )
    await street.until(lambda: two.lines["a1"].steps == ["a"], "who opened it again moves it")
    assert one.lines["a1"].steps == ["a"]


async def test_people_who_speak_at_once_to_all_are_all_heard(street: Street) -> None:
    houses = await connected(street, 3)
    run = await houses[0].submit(*(look(f"s{n}") for n in range(3)), mode="parallel")
    attempts = [(await houses[0].live(run, f"s{n}")).attempt_id for n in range(3)]
    await asyncio.gather(
        *(
            house.agents._reporting._end(
                house.member(), run.execution_id, Report(attempt, "completed")
            )
            for house, attempt in zip(houses, attempts, strict=True)
        )
    )
    state = await houses[1].state(run)
    assert state.state == "completed"
    assert (await events(houses[0], run)).count("attempt_finished") == 3


async def test_what_a_frozen_orchestrator_moved_goes_on_at_another(street: Street) -> None:
    one, two = await connected(street)
    run = await one.submit(look("a"), write("b"))
    attempt = await one.live(run, "a")
    await street.freeze(one)
    await street.until(lambda: two.engine.moves(run.execution_id), "the other takes over")
    # It does not know whether the agent was told, so it tells it again.
    assert [item.attempt_id for item in two.lines["a1"].assigned] == [attempt.attempt_id]
    await two.end(run, "a")
    await two.end(run, "b")
    assert await two.ended(run) == "completed"
    assert (await events(two, run)).count("attempt_granted") == 2


async def test_a_frozen_orchestrator_that_wakes_grants_nothing_and_starts_anew(
    street: Street,
) -> None:
    one, two = await connected(street)
    run = await one.submit(look("a"), write("b"))
    attempt = await one.live(run, "a")
    old = one.replica.replica_id
    await street.freeze(one)
    await street.until(lambda: two.engine.moves(run.execution_id), "the other takes over")
    # The zombie hears the report first. It may write it, and must not grant what follows.
    await one.agents._reporting._end(
        one.member(), run.execution_id, Report(attempt.attempt_id, "completed")
    )
    assert one.lines["a1"].steps == ["a"]
    await street.until(lambda: two.lines["a1"].steps == ["a", "b"], "the new owner grants")
    await street.wake(one)
    assert one.replica.replica_id != old
    assert "given up" in one.lines["a1"].closed
    assert list(one.engine.open_states()) == []
    one.hang_up()
    await one.connect("a1")
    again = await one.submit(look("c"))
    assert one.lines["a1"].steps == ["c"]
    await two.end(run, "b")
    await one.end(again, "c")
    assert [await one.ended(run), await two.ended(again)] == ["completed"] * 2


async def test_a_zombie_in_the_middle_of_a_grant_is_stopped_by_the_fence(street: Street) -> None:
    one, two = await connected(street)
    run = await one.submit(look("a"), write("b"))
    attempt = await one.live(run, "a")
    await street.freeze(one)
    await street.until(lambda: two.engine.moves(run.execution_id), "the other takes over")
    one.replica.renewed(one.replica.boottime())  # it believes that its lease still holds
    await one.agents._reporting._end(
        one.member(), run.execution_id, Report(attempt.attempt_id, "completed")
    )
    assert one.lines["a1"].steps == ["a"]
    await two.live(run, "b")
    granted = [event for event in await events(two, run) if event == "attempt_granted"]
    assert len(granted) == 2
    assert two.lines["a1"].steps == ["a", "b"]


async def test_who_leaves_hands_over_at_once(street: Street) -> None:
    one, two = await connected(street)
    runs = [await one.submit(look("a"), look("b")) for _ in range(3)]
    assert one.cluster is not None
    await one.cluster.leave()
    await street.until(
        lambda: all(two.engine.moves(run.execution_id) for run in runs), "all are taken over"
    )
    assert len(two.lines["a1"].steps) == 3
    for run in runs:
        await two.end(run, "a")
        await two.end(run, "b")
        # Whoever asks the one that leaves still gets an answer.
        assert await one.ended(run) == "completed"


async def test_a_submission_where_no_agent_is_goes_where_one_is(street: Street) -> None:
    one, two = await street.open(), await street.open()
    await one.enrol("a1")
    await two.connect("a1")
    await street.until(lambda: one.member().state == "online", "it is known where it is not")
    run = await one.submit(look("a"))
    await street.until(lambda: two.lines["a1"].steps == ["a"], "it is handed over")
    await two.end(run, "a")
    assert await one.ended(run) == "completed"


async def test_a_cancel_goes_where_the_agent_is(street: Street) -> None:
    one, two = await connected(street)
    run = await one.submit(restart("a"))
    attempt = await one.live(run, "a")
    one.hang_up()
    await one.engine.command(
        run.execution_id, lambda state, _: commands.cancel(state, "bob", "enough")
    )
    await street.until(lambda: two.lines["a1"].cancelled, "the cancel is sent from where it can be")
    assert two.lines["a1"].cancelled == [attempt.attempt_id]


async def test_one_change_at_a_time_on_a_target_over_all_orchestrators(street: Street) -> None:
    one, two = await connected(street)
    first = await one.submit(restart("a"))
    second = await two.submit(restart("b"))
    assert (one.lines["a1"].steps, two.lines["a1"].steps) == (["a"], [])
    assert "waits for lock" in two.engine.waiting_reason(second.execution_id, "b")
    await one.end(first, "a")
    await street.until(lambda: two.lines["a1"].steps == ["b"], "the lock is free for the other")
    await two.end(second, "b")
    assert (await one.store.load("")).holds == {}


async def test_a_lock_outlives_the_orchestrator_that_granted_it(street: Street) -> None:
    one, two, three = await connected(street, 3)
    first = await one.submit(restart("a"))
    await street.freeze(one)
    await street.until(
        lambda: any(house.engine.moves(first.execution_id) for house in (two, three)), "take over"
    )
    second = await three.submit(restart("b"))
    assert three.lines["a1"].steps in ([], ["a"])
    owner = two if two.engine.moves(first.execution_id) else three
    await owner.end(first, "a")
    await street.until(lambda: "b" in three.lines["a1"].steps, "the lock is free then")
    await three.end(second, "b")


async def test_a_watcher_elsewhere_sees_every_event_once(street: Street) -> None:
    one, two = await connected(street)
    run = await one.submit(look("a"), look("b"))

    async def watch() -> list[int]:
        return [item.stored.seq async for item in two.history.watch(run.execution_id, 1)]

    watching = asyncio.create_task(watch())
    await one.end(run, "a")
    await one.end(run, "b")
    seqs = await watching
    assert seqs == list(range(1, len(seqs) + 1))
    assert (await events(one, run))[-1] == "execution_finished"
    assert len(seqs) == len(await events(one, run))


async def test_agents_are_seen_and_drained_from_everywhere(street: Street) -> None:
    one, two = await street.open(), await street.open()
    await one.enrol("a1")
    await one.connect("a1")
    await street.until(
        lambda: (member := two.fleet.get("a1")) and member.state == "online", "it is seen online"
    )
    await two.agents.drain("a1", undo=False)
    await street.until(lambda: one.member().draining, "who talks with it knows")
    run = await one.submit(look("a"))
    assert one.lines["a1"].steps == []
    await two.agents.drain("a1", undo=True)
    await street.until(lambda: one.lines["a1"].steps == ["a"], "it works again")
    await one.end(run, "a")
    one.hang_up()
    await street.until(lambda: two.member().state == "offline", "it is seen offline")


async def test_an_agents_places_are_counted_over_all(street: Street) -> None:
    one, two = await street.open(), await street.open()
    await one.enrol("a1")
    await one.connect("a1", capacity=1)
    await two.cluster.look()  # type: ignore[union-attr]
    await two.connect("a1", capacity=1)
    first = await one.submit(look("a"))
    await two.cluster.look()  # type: ignore[union-attr]
    await two.submit(look("b"))
    assert two.lines["a1"].steps == []
    await one.end(first, "a")
    await street.until(lambda: two.lines["a1"].steps == ["b"], "the place is free")


async def test_a_retry_is_made_by_who_takes_over(street: Street) -> None:
    one, two = await connected(street)
    run = await one.submit(look("a", retry={**AGAIN, "delay": "1s"}))
    await one.end(run, "a", "failed", error=error())
    await street.freeze(one)
    await street.until(lambda: two.engine.moves(run.execution_id), "the other takes over")
    attempt = await two.live(run, "a")
    assert attempt.number == 2


async def test_an_orchestrator_that_starts_on_its_own_address_waits_for_no_lease(
    street: Street,
) -> None:
    one = await street.open()
    await one.enrol("a1")
    await one.connect("a1")
    run = await one.submit(look("a"))
    await street.freeze(one)
    one.replica.address, address = "", one.replica.address
    two = await street.open()
    two.replica.address = address
    await two.cluster._join(instead=True)  # type: ignore[union-attr]
    await two.cluster.renew()  # type: ignore[union-attr]
    await two.cluster.look()  # type: ignore[union-attr]
    assert two.engine.moves(run.execution_id)


async def test_agents_are_told_where_all_orchestrators_are(street: Street) -> None:
    one = await street.open()
    await one.enrol("a1")
    line = await one.connect("a1")
    assert one.replica.endpoints == ()
    two = await street.open()
    await street.until(lambda: line.closed, "the agent is to connect again")
    assert "learn where" in line.closed
    assert set(one.replica.endpoints) == {one.replica.address, two.replica.address}


@pytest.mark.parametrize("count", [2, 3])
async def test_work_left_behind_is_shared_out(street: Street, count: int) -> None:
    houses = await connected(street, count + 1)
    runs = [await houses[0].submit(look("a")) for _ in range(4)]
    assert houses[0].cluster is not None
    await houses[0].cluster.leave()
    await street.until(
        lambda: all(sum(h.engine.moves(run.execution_id) for h in houses) == 1 for run in runs),
        "each is moved by exactly one",
    )


async def test_an_agent_that_another_orchestrator_hears_is_not_retired(street: Street) -> None:
    one, two = await connected(street)
    run = await two.submit(restart("a", target="10.0.0.9"))
    await two.live(run, "a")
    one.hang_up()
    await street.until(lambda: one.member().elsewhere, "it is seen where it is connected")
    with pytest.raises(InvalidTransition, match="is connected"):
        await one.agents.retire("a1", "olga", "its host burnt")
    assert (await two.live(run, "a")).state == "granted"


async def test_what_other_orchestrators_gave_a_retired_agent_is_unknown_as_well(
    street: Street,
) -> None:
    one, two = await connected(street)
    run = await two.submit(restart("a", target="10.0.0.9"))
    await two.live(run, "a")
    for house in (one, two):
        house.hang_up()
    await street.until(lambda: not one.member().elsewhere, "its end is noticed")
    unknown = (await one.agents.retire("a1", "olga", "its host burnt"))[1]
    assert unknown == [(run.execution_id, "a")]
    await street.until(lambda: two.member().state == "quarantined", "the other has heard of it")
    state = await two.until(run, lambda state: state.state == "attention_required")
    assert state.steps["a"].state == "unknown"
