"""Clocks that people set, where several orchestrators share a store."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from helpers.plans import look, write
from helpers.streets import connected
from opsconductor.orchestrator.engine.messages import Report

if TYPE_CHECKING:
    from helpers.engines import House
    from helpers.streets import Street
    from opsconductor.orchestrator.domain.executions.execution import Execution

HOUR = timedelta(hours=1)


async def hand_over(street: Street, run: Execution, one: House, two: House) -> None:
    await one.engine.pass_on(run.execution_id, two.replica.replica_id)
    await two.engine.take_over(run.execution_id)
    await street.until(lambda: two.engine.moves(run.execution_id), "it is moved by the other")


async def test_only_who_moves_a_plan_says_that_its_time_is_over(street: Street) -> None:
    one, two = await connected(street)
    run = await one.submit(look("a"), write("b"), timeout="30m")
    attempt = await one.live(run, "a")
    two.clock.ahead = HOUR
    await two.agents._reporting._end(
        two.member(), run.execution_id, Report(attempt.attempt_id, "completed")
    )
    assert (await two.state(run)).stopping == ""
    await one.end(run, "b")
    assert await one.ended(run) == "completed"


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_plan_that_comes_back_has_the_time_it_was_allowed(
    street: Street, step: timedelta
) -> None:
    one, two = await connected(street)
    run = await one.submit(look("a"), write("b"), timeout="2h")
    attempt = await one.live(run, "a")
    await hand_over(street, run, one, two)
    for house in (one, two):  # the same time server corrects both
        house.clock.ahead = step
    await hand_over(street, run, two, one)
    one.clock.wait(timedelta(minutes=110))
    one.agents.heard(one.member())
    await one.agents._reporting._end(
        one.member(), run.execution_id, Report(attempt.attempt_id, "completed")
    )
    assert (await one.state(run)).stopping == ""
    one.clock.wait(timedelta(minutes=20))
    one.agents.heard(one.member())
    one.engine.look_again(run.execution_id)
    await one.until(run, lambda state: state.stopping == "timeout")
