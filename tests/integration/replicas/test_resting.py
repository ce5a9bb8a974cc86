"""What only waits is no load on any of several orchestrators, and goes on all the same."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.plans import error, look, write
from helpers.streets import connected, events
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.engine import memory

if TYPE_CHECKING:
    from helpers.engines import House
    from helpers.streets import Street
    from opsconductor.orchestrator.domain.executions.execution import Execution


@pytest.fixture(autouse=True)
def nobody_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps nothing in memory that only waits."""
    monkeypatch.setattr(memory, "IDLE_KEPT", 0)


def rests(house: House, run: Execution) -> bool:
    return run.execution_id in house.engine._memory.resting and not list(house.engine.open_states())


def waiting(house: House) -> int:
    return house.engine.waiting.steps_of("default")


async def queued(house: House, count: int = 1) -> list[Execution]:
    """Submits what no agent is there for."""
    runs = [await house.submit(look("a")) for _ in range(count)]
    assert all(rests(house, run) for run in runs)
    return runs


async def test_what_rests_is_moved_here_and_not_read_while_nothing_happens_to_it(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await connected(street)
    for house in (one, two):
        house.hang_up()
    runs = await queued(one, 5)
    read: list[str] = []
    chain = one.store.chain

    async def noted(execution_id: str, **more: Any) -> Any:
        read.append(execution_id)
        return await chain(execution_id, **more)

    monkeypatch.setattr(one.store, "chain", noted)
    assert one.cluster is not None
    for _ in range(3):
        await one.cluster.renew()
        await one.cluster.look()
    assert read == []
    assert all(one.engine.moves(run.execution_id) for run in runs)
    assert not any(two.engine.moves(run.execution_id) for run in runs)


async def test_what_rests_runs_when_an_agent_comes(street: Street) -> None:
    (one,) = await connected(street, 1)
    one.hang_up()
    runs = await queued(one, 9)
    line = await one.connect("a1", capacity=3)
    for run in runs:
        await one.end(run, "a")
    assert len(line.steps) == len({item.attempt_id for item in line.assigned}) == 9
    for run in runs:
        assert await one.ended(run) == "completed"
    assert one.engine.moving() == {}


@pytest.mark.parametrize("hints", [True, False])
async def test_what_others_write_of_one_that_rests_is_seen(street: Street, *, hints: bool) -> None:
    one, two = await connected(street)
    if not hints:
        await street.deafen(one)
    one.hang_up()
    two.hang_up()
    first, second = await queued(one, 2)
    await two.engine.command(
        first.execution_id, lambda state, _: commands.cancel(state, "bob", "enough")
    )
    await street.until(lambda: waiting(one) == 1, "it waits for nothing any more")
    assert not one.engine.moves(first.execution_id)
    assert rests(one, second)
    assert (await one.state(first)).state == "cancelled"


async def test_what_rests_is_taken_over_and_rests_there(street: Street) -> None:
    one, two = await connected(street)
    one.hang_up()
    two.hang_up()
    runs = await queued(one, 5)
    await street.freeze(one)
    await street.until(lambda: waiting(two) == 5, "the other takes over")
    assert all(rests(two, run) for run in runs)
    await street.wake(one)
    assert waiting(one) == 0
    assert one.engine.moving() == {}
    line = await two.connect("a1")
    for run in runs:
        await two.end(run, "a")
    assert len(line.steps) == 5


async def test_what_rests_is_left_to_others_by_one_that_leaves(street: Street) -> None:
    one, two = await connected(street)
    one.hang_up()
    (run,) = await queued(one)
    assert one.cluster is not None
    await one.cluster.leave()
    assert waiting(one) == 0
    await two.end(run, "a")
    assert (await events(two, run)).count("attempt_granted") == 1


async def test_what_rests_where_no_agent_is_goes_where_one_is(street: Street) -> None:
    one, two = await street.open(), await street.open()
    await one.enrol("a1")
    await two.connect("a1")
    await street.until(lambda: one.member().state == "online", "it is known where it is not")
    (run,) = await queued(one)
    await street.until(lambda: two.lines["a1"].steps == ["a"], "it is handed over")
    assert waiting(one) == 0
    await two.end(run, "a")


async def test_a_time_that_comes_while_the_lease_has_run_out_is_made_up_for(
    street: Street,
) -> None:
    (one,) = await connected(street, 1)
    run = await one.submit(look("a"), write("b"))
    await one.end(run, "a", "not_started", error=error("START_TTL_EXPIRED"))
    await street.freeze(one)
    assert rests(one, run)
    boottime, one.replica.boottime = one.replica.boottime, lambda: float("inf")
    one.clock.wait(timedelta(seconds=2))
    one.engine._timers._wake.set()
    await street.until(lambda: not one.engine._timers._queue, "the time has come and gone")
    one.replica.boottime = boottime
    one.replica.release()
    await street.wake(one)
    await street.until(lambda: one.lines["a1"].steps == ["a", "a"], "it is tried again")
