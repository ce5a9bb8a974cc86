"""A clock that somebody sets changes the time of day, and not how long anything takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.doubts import lose_next_answer
from helpers.engines import House
from helpers.places import until
from helpers.plans import AGAIN, FREE, error, look, restart
from opsconductor.orchestrator.domain.plans.policy import Rule
from opsconductor.orchestrator.engine import doubts, memory
from opsconductor.orchestrator.engine.clock_steps import ClockSteps

if TYPE_CHECKING:
    from pathlib import Path

    from opsconductor.orchestrator.domain.executions.execution import Execution

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
BOTH_WAYS = pytest.mark.parametrize("step", [HOUR, -HOUR])


def set_clock(house: House, step: timedelta) -> None:
    """Sets the clock of an orchestrator, which sees it when it looks next."""
    house.clock.ahead += step
    house.engine._clock()


async def idle(house: House) -> None:
    """Waits until whatever was asked to look again has looked."""
    await until(lambda: not house.engine._work._tasks)


async def ends_in_time(house: House, run: Execution, minutes: float) -> None:
    """Requires that a plan's time is over after some minutes, not a minute before."""
    house.clock.wait(timedelta(minutes=minutes - 1))
    house.engine.look_again(run.execution_id)
    await idle(house)
    assert (await house.state(run)).stopping == ""
    house.clock.wait(timedelta(minutes=2))
    house.engine.look_again(run.execution_id)
    await house.until(run, lambda state: state.stopping == "timeout")


def comes_up_in_half_an_hour(house: House, run: Execution) -> None:
    timer = house.engine._memory.moving[run.execution_id].timer
    assert timer is not None
    assert abs(timer - house.clock() - timedelta(minutes=30)) < 30 * SECOND


async def resting_for_an_hour(house: House, monkeypatch: pytest.MonkeyPatch) -> Execution:
    """Returns an execution that waits out of memory for its next try."""
    monkeypatch.setattr(memory, "IDLE_KEPT", 0)
    run = await house.submit(look("a", retry={**AGAIN, "delay": "1h"}))
    await house.end(run, "a", "failed", error=error())
    assert run.execution_id in house.engine._memory.resting
    return run


@BOTH_WAYS
async def test_the_plans_time_limit_is_as_long_as_it_was(house: House, step: timedelta) -> None:
    run = await house.submit(look("a"), timeout="30m")
    await house.live(run, "a")
    house.clock.wait(timedelta(minutes=10))
    set_clock(house, step)
    await idle(house)
    assert (await house.state(run)).stopping == ""
    set_clock(house, 2 * step)
    await ends_in_time(house, run, 20)


@BOTH_WAYS
async def test_its_timer_comes_after_as_much_time(house: House, step: timedelta) -> None:
    run = await house.submit(look("a"), timeout="30m")
    await house.live(run, "a")
    set_clock(house, step)
    await idle(house)
    comes_up_in_half_an_hour(house, run)


async def test_a_clock_set_back_does_not_make_a_next_try_wait(house: House) -> None:
    run = await house.submit(look("a", retry={**AGAIN, "delay": "50ms"}))
    await house.end(run, "a", "failed", error=error())
    set_clock(house, -20 * SECOND)
    assert (await house.live(run, "a")).number == 2


async def test_an_approval_expires_by_the_time_of_day(tmp_path: Path) -> None:
    asks = replace(FREE, rules=(Rule("asked", 1),))
    house = await House.open(f"sqlite:///{tmp_path}/asks.sqlite", asks)
    await house.enrol("a1")
    await house.connect("a1")
    run = await house.submit(restart("a", target="10.0.0.9"))
    assert run.state == "approval_required"
    set_clock(house, timedelta(days=30))
    assert (await house.until(run, lambda state: not state.open)).state == "expired"
    await house.close()


@BOTH_WAYS
async def test_a_report_that_comes_first_is_judged_by_the_time_that_passed(
    house: House, step: timedelta
) -> None:
    run = await house.submit(look("a"), timeout="30m")
    await house.live(run, "a")
    house.clock.ahead += step
    await house.end(run, "a")
    assert (await house.state(run)).state == "completed"


@BOTH_WAYS
async def test_a_commit_whose_answer_is_lost_while_the_clock_is_set_counts_once(
    house: House, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    monkeypatch.setattr(doubts, "LOOKED_AT_AFTER", 0.01)
    house.hang_up()
    run = await house.submit(look("a"), timeout="30m")
    set_clock(house, step)
    await idle(house)
    lose_next_answer(house, monkeypatch)
    await house.connect("a1")  # what it is granted now is written, and nobody is told
    await house.live(run, "a")
    await ends_in_time(house, run, 30)


@BOTH_WAYS
async def test_a_clock_that_is_set_during_the_first_commit_counts(
    house: House, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    commit = house.store.commit

    async def meanwhile(*operations: Any) -> Any:
        monkeypatch.setattr(house.store, "commit", commit)
        set_clock(house, step)
        return await commit(*operations)

    monkeypatch.setattr(house.store, "commit", meanwhile)
    run = await house.submit(look("a"), timeout="30m")
    await house.live(run, "a")
    await idle(house)
    comes_up_in_half_an_hour(house, run)
    await ends_in_time(house, run, 30)


async def test_what_rests_out_of_memory_counts_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await resting_for_an_hour(house, monkeypatch)
    house.hang_up()
    house.clock.wait(HOUR)
    house.engine._timers._wake.set()
    await until(lambda: not house.engine._timers._queue)
    set_clock(house, -HOUR)
    await house.connect("a1")
    assert (await house.live(run, "a")).number == 2


async def test_the_timer_of_what_rests_comes_after_as_much_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await resting_for_an_hour(house, monkeypatch)
    set_clock(house, -HOUR)
    await idle(house)
    house.clock.wait(timedelta(minutes=61))
    house.agents.heard(house.member())
    house.engine._timers._wake.set()
    assert (await house.live(run, "a")).number == 2


async def test_nothing_is_called_overlooked_because_the_clock_was_set(house: House) -> None:
    run = await house.submit(look("a"), timeout="30m")
    await house.live(run, "a")
    house.clock.ahead += HOUR
    assert house.engine._turns.overlooked() == []
    await idle(house)
    assert house.engine._turns.overlooked() == []


async def test_what_began_after_the_step_goes_by_the_clock_as_it_was_set(house: House) -> None:
    set_clock(house, HOUR)
    run = await house.submit(look("a"), timeout="30m")
    await house.live(run, "a")
    await ends_in_time(house, run, 30)


class Clocks:
    """Two clocks that a test turns by hand."""

    def __init__(self) -> None:
        self.wall, self.steady = 0.0, 0.0
        self.frozen_for = 0.0
        self.found = 0
        self.steps = ClockSteps(self.now, lambda: self.steady)
        self.steps.on_step = self._on_step

    def now(self) -> datetime:
        self.steady += self.frozen_for
        self.wall += self.frozen_for
        self.frozen_for = 0.0
        return BEGIN + timedelta(seconds=self.wall)

    def _on_step(self) -> None:
        self.found += 1


def test_drift_is_no_step() -> None:
    clocks = Clocks()
    for _ in range(20):
        clocks.steady += 100.0
        clocks.wall += 100.5
        clocks.steps.now()
    assert clocks.found == 0


def test_whoever_was_frozen_between_two_looks_sees_no_step() -> None:
    clocks = Clocks()
    clocks.frozen_for = 30.0
    clocks.steps.now()
    clocks.steps.now()
    assert clocks.found == 0


def test_steps_are_kept_with_their_size() -> None:
    clocks = Clocks()
    mark = clocks.steps.clock.mark
    for by in (10.0, -30.0):
        clocks.wall += by
        clocks.steps.now()
    assert clocks.found == 2
    assert clocks.steps.clock.moved_since(mark) == timedelta(seconds=-20)
    assert clocks.steps.clock.moved_since(clocks.steps.clock.mark) == timedelta()
