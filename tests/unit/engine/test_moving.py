"""The engine moves executions: commits first, then acts; nothing of a failed commit stays."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from helpers.places import until
from helpers.plans import AGAIN, error, look, restart, write
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.executions.fold import fold
from opsconductor.orchestrator.engine import doubts, log
from opsconductor.orchestrator.engine.messages import Report
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import (
    InvalidTransition,
    NotFound,
    NotYourAttempt,
    PlanInvalid,
    RequestIdReused,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from helpers.engines import House


async def test_a_plan_is_submitted_assigned_reported_and_completed(house: House) -> None:
    run = await house.submit(look("a"), write("b"))
    line = house.lines["a1"]
    assert line.steps == ["a"]
    report = await house.end(run, "a", output={"text": "6.1"})
    assert line.acknowledged == [report.attempt_id]
    assert line.steps == ["a", "b"]
    await house.end(run, "b")
    state = await house.state(run)
    assert (state.state, state.steps["a"].output) == ("completed", {"text": "6.1"})
    assert house.member().attempts == set()
    assert dict(house.fleet.holds) == {}


async def test_what_is_assigned_is_what_was_compiled(house: House) -> None:
    run = await house.submit(write("a"))
    (assignment,) = house.lines["a1"].assigned
    assert assignment.body == run.compiled.step("a").body_bytes
    assert assignment.manifest == run.compiled.manifest_bytes
    assert assignment.traceparent.split("-")[1] == run.trace_id


async def test_the_same_request_gives_the_same_execution(house: House) -> None:
    first = await house.submit(look("a"), request_id="r1")
    again = await house.submit(look("a"), request_id="r1")
    assert again.execution_id == first.execution_id
    with pytest.raises(RequestIdReused):
        await house.submit(look("b"), request_id="r1")


async def test_requests_at_the_same_time_run_once(house: House) -> None:
    runs = await asyncio.gather(*[house.submit(look("a"), request_id="r1") for _ in range(8)])
    assert len({run.execution_id for run in runs}) == 1
    assert house.lines["a1"].steps == ["a"]
    assert len(house.member().attempts) == 1
    later = await house.submit(look("b"))
    assert (await house.live(later, "b")).agent_id == "a1"


async def test_a_plan_with_faults_starts_nothing(house: House) -> None:
    with pytest.raises(PlanInvalid):
        await house.submit({"id": "a", "tool": "no_such_tool"})
    assert await house.store.open_executions() == ()


def broken(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> None:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(house.store, "commit", refuse)


async def test_a_submission_that_is_not_written_leaves_nothing_behind(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubts, "LOOKED_AT_AFTER", 0.01)
    with monkeypatch.context() as patch:
        broken(house, patch)
        with pytest.raises(StoreUnavailable):
            await house.submit(write("a", target="10.0.0.9"))
    assert house.lines["a1"].assigned == []
    # It may be written, until the store is asked again.
    await until(lambda: not house.member().attempts)
    assert dict(house.fleet.holds) == {}
    run = await house.submit(write("a", target="10.0.0.9"))
    await house.end(run, "a")
    assert (await house.state(run)).state == "completed"


async def test_a_report_that_is_not_written_is_not_acknowledged_and_counts_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await house.submit(look("a"), look("b"))
    attempt = await house.live(run, "a")
    with monkeypatch.context() as patch:
        broken(house, patch)
        with pytest.raises(StoreUnavailable):
            await house.end(run, "a")
    assert house.lines["a1"].acknowledged == []
    assert attempt.attempt_id in house.member().attempts
    await house.end(run, "a")
    assert house.lines["a1"].steps == ["a", "b"]
    assert house.member().attempts == {(await house.live(run, "b")).attempt_id}


async def test_a_lock_that_is_freed_while_who_waits_for_it_is_being_written_is_taken(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await house.submit(restart("first", target="10.0.0.9"))
    attempt = await house.live(run, "first")
    commit, written, go = house.store.commit, asyncio.Event(), asyncio.Event()

    async def slow(*operations: Any) -> list[Any]:
        monkeypatch.setattr(house.store, "commit", commit)
        written.set()
        await go.wait()
        return await commit(*operations)

    monkeypatch.setattr(house.store, "commit", slow)
    asking = asyncio.create_task(house.submit(restart("other", target="10.0.0.9")))
    await written.wait()
    await house.agents.report(house.member(), Report(attempt.attempt_id, "completed", "done"))
    for _ in range(20):  # rounds of the loop in which turns are given
        await asyncio.sleep(0)
    go.set()
    await house.live(await asking, "other")


async def test_a_caller_who_hangs_up_does_not_leave_memory_behind_the_store(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await house.submit(look("a"))
    commit, written = house.store.commit, asyncio.Event()

    async def slow(*ops: Any) -> list[Any]:
        results = await commit(*ops)
        written.set()
        await asyncio.sleep(0)
        return results

    monkeypatch.setattr(house.store, "commit", slow)
    caller = asyncio.create_task(
        house.engine.command(run.execution_id, lambda s, _: commands.cancel(s, "rita", ""))
    )
    await written.wait()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await house.until(run, lambda state: state.state == "cancelling")
    await house.end(run, "a", "cancelled")
    assert (await house.state(run)).state == "cancelled"


async def test_cancel_is_committed_before_the_agent_is_told(house: House) -> None:
    run = await house.submit(look("a"))
    attempt = await house.live(run, "a")
    await house.engine.command(run.execution_id, lambda s, _: commands.cancel(s, "rita", ""))
    assert house.lines["a1"].cancelled == [attempt.attempt_id]
    stored = await house.store.events(run.execution_id)
    assert stored[-1].type == "cancel_requested"


async def test_a_refused_command_changes_nothing(house: House) -> None:
    run = await house.submit(look("a"))
    with pytest.raises(InvalidTransition):
        await house.engine.command(run.execution_id, lambda s, _: commands.resume(s, "rita"))
    with pytest.raises(NotFound):
        await house.engine.command("exec_none", lambda s, _: commands.cancel(s, "rita", ""))
    assert (await house.state(run)).last_seq == run.last_seq


async def test_a_late_report_never_overrides(house: House) -> None:
    run = await house.submit(look("a"))
    report = await house.end(run, "a")
    late = Report(report.attempt_id, "failed", error=error())
    await house.agents.report(house.member(), late)
    assert (await house.state(run)).state == "completed"
    assert house.lines["a1"].acknowledged == [report.attempt_id] * 2


async def test_the_same_report_twice_counts_once(house: House) -> None:
    run = await house.submit(write("a"), write("b"))
    report = await house.end(run, "a")
    await house.agents.report(house.member(), report)
    assert house.lines["a1"].steps == ["a", "b"]


async def test_an_agent_cannot_report_for_another(house: House) -> None:
    await house.enrol("a2")
    run = await house.submit(look("a"))
    attempt = await house.live(run, "a")
    await house.connect("a2")
    with pytest.raises(NotYourAttempt):
        await house.agents.report(house.member("a2"), Report(attempt.attempt_id, "completed"))
    assert (await house.live(run, "a")).attempt_id == attempt.attempt_id


async def test_a_short_delay_that_passes_during_the_commit_is_not_missed(house: House) -> None:
    retry = {**AGAIN, "delay": "1ms"}
    run = await house.submit(look("a", retry=retry))
    for _ in range(2):
        await house.end(run, "a", "failed", error=error())
    await house.end(run, "a")
    assert (await house.state(run)).state == "completed"


async def test_the_plans_time_limit_cancels_what_runs(house: House) -> None:
    run = await house.submit(look("a"), timeout="1s")
    attempt = await house.live(run, "a")
    await house.until(run, lambda state: state.stopping == "timeout")
    assert house.lines["a1"].cancelled == [attempt.attempt_id]
    await house.end(run, "a", "cancelled")
    assert (await house.state(run)).state == "timed_out"


async def test_a_start_is_written_with_what_comes_next(house: House) -> None:
    run = await house.submit(restart("a", target="10.0.0.9"))
    attempt = await house.live(run, "a")
    await house.agents.report(house.member(), Report(attempt.attempt_id, "running", command="x"))
    await house.until(run, lambda state: state.attempts[attempt.attempt_id].state == "running")
    await house.end(run, "a")
    types = [event.type for event in await house.store.events(run.execution_id)]
    assert types[-4:] == [
        "attempt_started",
        "attempt_finished",
        "step_finished",
        "execution_finished",
    ]


async def test_the_chain_of_events_verifies_and_folds_to_the_state(house: House) -> None:
    run = await house.submit(look("a"), write("b"))
    await house.end(run, "a")
    await house.end(run, "b")
    stored = await house.store.events(run.execution_id)
    recorded = log.read(stored)
    assert log.chain(log.GENESIS, run.execution_id, recorded)[0] == stored
    assert fold(None, recorded) == await house.state(run)
    forged = canonical.dumps({**canonical.loads(stored[-1].data), "state": "failed"})
    assert hashlib.sha256(forged).hexdigest() != stored[-1].hash
    row = await house.store.execution(run.execution_id)
    assert row is not None
    assert (row.state, row.open, row.head_hash) == ("completed", False, stored[-1].hash)


async def test_a_finished_execution_is_rolled_back_from_the_store(house: House) -> None:
    run = await house.submit(write("a"))
    await house.end(run, "a")

    def undo(state: Any, _: Any) -> Any:
        return commands.rollback(state, "rita", "")

    await asyncio.gather(*[house.engine.command(run.execution_id, undo) for _ in range(3)])
    await house.end(run, "a")
    assert (await house.state(run)).state == "rolled_back"
    assert [item.kind for item in house.lines["a1"].assigned] == ["forward", "undo"]
