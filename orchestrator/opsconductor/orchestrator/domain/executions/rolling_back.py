"""Undo: which steps are taken back, in which order, and what each end means."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.execution import (
    UNDO,
    Attempt,
    Execution,
    StepRecord,
)
from opsconductor.orchestrator.domain.executions.judging import (
    REQUEUE_CODES,
    refused_too_often,
    requeue_delay,
)
from opsconductor.orchestrator.domain.executions.states import (
    AttemptState,
    ExecutionState,
    StepState,
)

if TYPE_CHECKING:
    from datetime import datetime

MAX_UNDO_ATTEMPTS = 3
UNDO_RETRY_DELAY = timedelta(seconds=1)

_UNDOABLE = (
    StepState.COMPLETED,
    StepState.FAILED,
    StepState.TIMED_OUT,
    StepState.UNREACHABLE,
    StepState.CANCELLED,
    StepState.CANCEL_UNVERIFIED,
    StepState.ROLLBACK_FAILED,
)


def undo_order(state: Execution) -> list[str]:
    """Returns the steps that may have had effects, last started first."""
    candidates = [
        record
        for step in state.compiled.steps
        if (record := state.steps[step.step_id]).state in _UNDOABLE
        and record.effects != "none"
        and step.changes
    ]
    candidates.sort(key=lambda record: record.start_order, reverse=True)
    return [record.step_id for record in candidates]


def no_return(state: Execution) -> str:
    """Returns the step that cannot be undone and may have had effects; empty when there is none."""
    for step_id in undo_order(state):
        if state.compiled_step(step_id).body["irreversible"]:
            return step_id
    return ""


def begin(state: Execution, reason: str, otherwise: str) -> tuple[ev.Event, ...]:
    """Returns the events that start the undo a plan asks for in case of failure.

    Args:
        state: An execution that came to a stop.
        reason: Why it did.
        otherwise: State in which it ends when nothing can be undone.
    """
    if step_id := no_return(state):
        text = f"{reason}; not rolled back: step {step_id} is a point of no return"
        return (ev.ExecutionFinished(otherwise, text),)
    order = undo_order(state)
    if not order and not state.compiled.rollback:
        return (ev.ExecutionFinished(otherwise, f"{reason}; there was nothing to undo"),)
    return (ev.RollbackStarted(reason, "policy:on_failure", order),)


def give_up(state: Execution) -> tuple[ev.Event, ...]:
    """Returns the events that end an undo which was cancelled: what is left can be asked for."""
    error = {
        "code": "UNDO_CANCELLED",
        "message": "the undo was cancelled before it was done",
        "error_class": "rollback_required",
    }
    undone = tuple(
        ev.UndoFinished(step_id, "rollback_failed", error)
        for step_id, record in state.steps.items()
        if record.state is StepState.ROLLING_BACK
    )
    calls = tuple(
        ev.StepSkipped(call.step_id, "the undo was cancelled")
        for call in state.compiled.rollback
        if state.steps[call.step_id].state is StepState.QUEUED
    )
    return (*undone, *calls)


def next_events(state: Execution) -> tuple[ev.Event, ...]:
    """Returns the next step of an undo that is under way, while no attempt is live."""
    undo = state.undo
    if undo is None:
        return ()
    for step_id in undo.order:
        record = state.steps[step_id]
        if record.undo_queued:
            return ()
        if record.state not in (StepState.ROLLED_BACK, StepState.ROLLBACK_FAILED):
            return (_start_undo(state, record),)
        if record.state is StepState.ROLLBACK_FAILED and not _tried_in_this_undo(state, record):
            return (_start_undo(state, record),)
    for call in state.compiled.rollback:
        record = state.steps[call.step_id]
        if record.state is StepState.QUEUED:
            return ()
        if record.state is StepState.PENDING:
            return (ev.StepQueued(call.step_id),)
    return (_finish(state),)


def judge_undo(state: Execution, attempt: Attempt, now: datetime) -> ev.Event:
    """Returns what an ended undo attempt leads to: rolled back, tried again, or given up."""
    if attempt.state is AttemptState.COMPLETED:
        return ev.UndoFinished(attempt.step_id, "rolled_back")
    code = (attempt.error or {}).get("code", "")
    not_started = attempt.state is AttemptState.NOT_STARTED
    again = state.state is ExecutionState.ROLLING_BACK
    if again and not_started and code in REQUEUE_CODES:
        if wait := requeue_delay(state, attempt):
            return ev.UndoQueued(attempt.step_id, (now + wait).isoformat(), state.clock.mark)
        error = refused_too_often(attempt)
        return ev.UndoFinished(attempt.step_id, "rollback_failed", error)
    started = [
        other
        for other in state.attempts_of(attempt.step_id, UNDO)
        if other.state is not AttemptState.NOT_STARTED
    ]
    harmless = attempt.effects == "none" and not not_started
    if again and harmless and len(started) < MAX_UNDO_ATTEMPTS:
        return ev.UndoQueued(
            attempt.step_id, (now + UNDO_RETRY_DELAY).isoformat(), state.clock.mark
        )
    error = attempt.error or {
        "code": "UNDO_FAILED",
        "message": f"the undo ended as {attempt.state}",
        "error_class": "non_retryable",
    }
    return ev.UndoFinished(attempt.step_id, "rollback_failed", error)


def _tried_in_this_undo(state: Execution, record: StepRecord) -> bool:
    """Tells whether the failure is of this undo, not of an earlier one asked for again."""
    return record.undo_tried == state.undo_count


def _start_undo(state: Execution, record: StepRecord) -> ev.Event:
    undo = state.compiled_step(record.step_id).body["undo"]
    strategy = undo["strategy"]
    if strategy == "manual":
        error = {
            "code": "MANUAL_UNDO",
            "message": f"a person has to undo step {record.step_id}: {undo['manual']}",
            "error_class": "rollback_required",
        }
        return ev.UndoFinished(record.step_id, "rollback_failed", error)
    if strategy in ("none", "not_needed"):
        words = {"none": "it has no undo", "not_needed": "it needs no undo"}
        return ev.UndoSkipped(record.step_id, words[strategy])
    return ev.UndoQueued(record.step_id)


def _finish(state: Execution) -> ev.ExecutionFinished:
    undo = state.undo
    order = undo.order if undo else ()
    reason = undo.reason if undo else ""
    failed = [
        f"step {step_id} was not undone: {(state.steps[step_id].error or {}).get('message', '')}"
        for step_id in order
        if state.steps[step_id].state is StepState.ROLLBACK_FAILED
    ]
    failed += [
        f"rollback call {call.step_id} {state.steps[call.step_id].state}"
        for call in state.compiled.rollback
        if state.steps[call.step_id].state is not StepState.COMPLETED
    ]
    if failed:
        return ev.ExecutionFinished("rollback_failed", "; ".join([reason, *failed]))
    left = [
        step.step_id
        for step in state.compiled.steps
        if step.step_id not in order
        and step.changes
        and state.steps[step.step_id].effects != "none"
        and step.body["undo"]["strategy"] == "none"
    ]
    note = f"; without an undo, left as they are: {', '.join(left)}" if left else ""
    return ev.ExecutionFinished("rolled_back", reason + note)
