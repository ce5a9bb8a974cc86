"""A new process on the same store goes on where the log ends; agents agree with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import pytest

from helpers.engines import Clock, House
from helpers.plans import AGAIN, FREE, error, look, restart, write
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.plans.policy import Rule
from opsconductor.orchestrator.engine.messages import Introduction, Report
from opsconductor.rpc.errors import PermissionDenied, StoreRegressed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from opsconductor.orchestrator.domain.executions.execution import Execution

INTRODUCTION = Introduction(
    version="1",
    journal_id="journal",
    boot_id="boot",
    services=(),
    methods=(),
    labels={},
    capacity=1,
    last_session_epoch=0,
    incarnation="",
)
Again: TypeAlias = Callable[..., Awaitable[House]]
ASKS = replace(FREE, rules=(Rule("asked", 1),))


@pytest.fixture
async def again(tmp_path: Path) -> AsyncIterator[Again]:
    """Starts the orchestrator, or ends it and starts it again."""
    houses: list[House] = []
    clock = Clock()

    async def start(policy: object = FREE) -> House:
        if houses:
            await houses.pop().close()
        house = await House.open(f"sqlite:///{tmp_path}/store.sqlite", policy, clock)  # type: ignore[arg-type]
        if house.fleet.get("a1") is None:
            await house.enrol("a1")
        houses.append(house)
        return house

    yield start
    await houses.pop().close()


async def approve(house: House, run: Execution) -> None:
    (request,) = (await house.state(run)).pending_approvals()
    await house.engine.command(
        run.execution_id,
        lambda state, now: commands.decide(state, request.approval_id, "approve", "bob", "", now),
    )


async def test_an_approval_is_waited_for_over_a_restart(
    again: Again,
) -> None:
    house = await again(ASKS)
    await house.connect("a1")
    run = await house.submit(restart("a", target="10.0.0.9"))
    house = await again(ASKS)
    line = await house.connect("a1")
    assert (await house.state(run)).state == "approval_required"
    await approve(house, run)
    assert line.steps == ["a"]


async def test_an_approval_that_expired_meanwhile_expires_at_the_start(
    again: Again,
) -> None:
    house = await again(ASKS)
    await house.connect("a1")
    run = await house.submit(restart("a", target="10.0.0.9"))
    house.clock.ahead = timedelta(hours=5)
    house = await again(ASKS)
    assert (await house.state(run)).state == "expired"


async def test_a_retry_is_made_after_a_restart(again: Again) -> None:
    house = await again()
    await house.connect("a1")
    run = await house.submit(look("a", retry={**AGAIN, "delay": "1s"}))
    await house.end(run, "a", "failed", error=error())
    house = await again()
    line = await house.connect("a1")
    attempt = await house.live(run, "a")
    assert (attempt.number, line.steps) == (2, ["a"])


async def test_a_grant_that_did_not_arrive_is_sent_again(
    again: Again,
) -> None:
    house = await again()
    await house.connect("a1")
    run = await house.submit(write("a"))
    house = await again()
    assert house.member().attempts == {(await house.live(run, "a")).attempt_id}
    line = await house.connect("a1")
    assert line.steps == ["a"]
    await house.end(run, "a")
    assert (await house.state(run)).state == "completed"


async def test_what_an_agent_remembers_is_not_sent_again(
    again: Again,
) -> None:
    house = await again()
    await house.connect("a1")
    run = await house.submit(write("a"))
    attempt = await house.live(run, "a")
    house = await again()
    line = await house.connect("a1", Report(attempt.attempt_id, "running"))
    assert line.steps == []
    assert (await house.live(run, "a")).state == "running"


async def test_an_end_that_was_reported_while_nobody_listened_counts(
    again: Again,
) -> None:
    house = await again()
    await house.connect("a1")
    run = await house.submit(write("a"))
    attempt = await house.live(run, "a")
    house = await again()
    line = await house.connect("a1", Report(attempt.attempt_id, "completed", "done"))
    assert line.acknowledged == [attempt.attempt_id]
    assert (await house.state(run)).state == "completed"


async def test_a_cancel_reaches_an_agent_that_comes_back_before_it_starts(
    again: Again,
) -> None:
    house = await again()
    await house.connect("a1")
    run = await house.submit(write("a"))
    attempt = await house.live(run, "a")
    house.hang_up()
    await house.engine.command(run.execution_id, lambda s, _: commands.cancel(s, "rita", ""))
    house = await again()
    line = await house.connect("a1")
    assert (line.cancelled, line.steps) == ([attempt.attempt_id], [])


async def test_an_agent_without_its_journal_is_not_sent_what_it_may_have_started(
    again: Again,
) -> None:
    house = await again()
    await house.connect("a1")
    run = await house.submit(restart("a", target="10.0.0.9"))
    house = await again()
    with pytest.raises(PermissionDenied, match="JOURNAL_LOST"):
        await house.connect("a1", journal_id="another")
    state = await house.state(run)
    assert (state.state, state.steps["a"].state) == ("attention_required", "unknown")
    assert state.steps["a"].error["code"] == "JOURNAL_LOST"


async def test_an_agent_that_has_seen_more_than_the_store_is_refused(
    again: Again,
) -> None:
    house = await again()
    line = await house.connect("a1")
    house.member().session_epoch = 0
    said = replace(INTRODUCTION, last_session_epoch=line.epoch + 1)
    with pytest.raises(StoreRegressed):
        await house.agents.connect("a1", said, line)
    with pytest.raises(StoreRegressed):
        await house.agents.connect("a1", replace(INTRODUCTION, incarnation="other"), line)


async def test_a_newer_session_replaces_the_older_one(
    again: Again,
) -> None:
    house = await again()
    first = await house.connect("a1")
    second = await house.connect("a1")
    assert first.closed
    assert second.epoch > first.epoch
    house.agents.disconnect(house.member(), first)
    assert house.member().session is second
