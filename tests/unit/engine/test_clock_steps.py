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
from opsconductor.orchestrator.engine.clock_steps import ClockSteps

if TYPE_CHECKING:
    from pathlib import Path

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Clocks:
    """Two clocks that a test turns by hand."""

    def __init__(self) -> None:
        self.wall, self.steady = 0.0, 0.0
        self.found = 0
        self.steps = ClockSteps(lambda: BEGIN + timedelta(seconds=self.wall), lambda: self.steady)
        self.steps.on_step = self._on_step

    def _on_step(self) -> list[str]:
        self.found += 1
        return ["x"]


async def told(house: House, run: Any) -> list[str]:
    events = await house.store.events(run.execution_id)
    return [event.type for event in events if event.type == "clock_stepped"]


async def settled(house: House, run: Any) -> Any:
    """Waits until an execution has been told of everything."""
    steps = house.engine._clock_steps
    house.engine._clock()
    await until(lambda: not steps.owes(run.execution_id))
    return await house.state(run)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_the_plans_time_limit_is_as_long_as_it_was(house: House, step: timedelta) -> None:
    run = await house.submit(look("a"), timeout="30m")
    await house.live(run, "a")
    house.clock.ahead += step
    assert (await settled(house, run)).stopping == ""
    house.clock.wait(timedelta(minutes=31))
    house.engine.look_again(run.execution_id)
    await house.until(run, lambda state: state.stopping == "timeout")
    assert len(await told(house, run)) == 1


async def test_a_clock_set_back_does_not_make_a_next_try_wait(house: House) -> None:
    run = await house.submit(look("a", retry={**AGAIN, "delay": "50ms"}))
    await house.live(run, "a")
    house.clock.ahead -= timedelta(seconds=20)
    await house.end(run, "a", "failed", error=error())
    house.clock.ahead -= timedelta(seconds=20)
    await settled(house, run)
    assert (await house.live(run, "a")).number == 2


async def test_an_approval_expires_by_the_time_of_day(tmp_path: Path) -> None:
    asks = replace(FREE, rules=(Rule("asked", 1),))
    house = await House.open(f"sqlite:///{tmp_path}/asks.sqlite", asks)
    await house.enrol("a1")
    await house.connect("a1")
    run = await house.submit(restart("a", target="10.0.0.9"))
    assert run.state == "approval_required"
    house.clock.ahead += timedelta(days=30)
    assert (await settled(house, run)).state == "expired"
    await house.close()


async def test_a_command_that_comes_before_the_news_is_judged_after_it(house: House) -> None:
    run = await house.submit(look("a"), timeout="30m")
    await house.live(run, "a")
    house.clock.ahead += HOUR
    await house.end(run, "a")
    assert (await house.state(run)).state == "completed"
    assert len(await told(house, run)) == 1


async def test_news_whose_answer_is_lost_counts_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await house.submit(look("a"), timeout="30m")
    await house.live(run, "a")
    lose_next_answer(house, monkeypatch)
    house.clock.ahead += HOUR
    state = await settled(house, run)
    assert (len(await told(house, run)), state.clock_moved) == (1, pytest.approx(HOUR, abs=SECOND))


async def test_two_steps_at_once_are_both_told(house: House) -> None:
    run = await house.submit(look("a"), timeout="30m")
    await house.live(run, "a")
    for step in (HOUR, 3 * HOUR):
        house.clock.ahead += step
        house.engine._clock()
    state = await settled(house, run)
    assert state.clock_moved == pytest.approx(4 * HOUR, abs=SECOND)


async def test_what_began_after_the_step_is_not_told(house: House) -> None:
    house.clock.ahead += HOUR
    run = await house.submit(look("a"), timeout="30m")
    await house.live(run, "a")
    assert (await settled(house, run)).clock_moved == timedelta()
    assert await told(house, run) == []


def test_drift_is_no_step() -> None:
    clocks = Clocks()
    for _ in range(20):
        clocks.steady += 100.0
        clocks.wall += 100.5
        clocks.steps.now()
    assert clocks.found == 0


def test_whoever_was_frozen_between_two_looks_sees_no_step() -> None:
    clocks = Clocks()
    frozen = iter([0.0, 30.0])
    wall = clocks.steps._clock

    def clock() -> datetime:
        seen = wall()
        slept = next(frozen, 0.0)
        clocks.steady += slept
        clocks.wall += slept
        return seen

    clocks.steps._clock = clock
    clocks.steps.now()
    clocks.steps.now()
    assert clocks.found == 0


def test_a_step_that_comes_while_another_is_written_is_still_owed() -> None:
    clocks = Clocks()
    clocks.wall += 10
    clocks.steps.now()
    seen = clocks.steps.count
    clocks.wall += 20
    clocks.steps.now()
    clocks.steps.told("x", seen)
    assert clocks.steps.owes("x")
    clocks.steps.told("x", clocks.steps.count)
    assert not clocks.steps.owes("x")
