"""What undo, pause, cancel and end make of an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.changing import replace
from opsconductor.orchestrator.domain.executions.execution import Undo
from opsconductor.orchestrator.domain.executions.moves import (
    move,
    move_step,
    moving,
    parse_time,
    show_gate,
)
from opsconductor.orchestrator.domain.executions.states import (
    ExecutionState,
    StepState,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.domain.executions.moves import Rule


def _rollback_started(event: ev.RollbackStarted, state: Execution, at: datetime) -> Execution:
    undo = Undo(tuple(event.order), event.person, event.reason, at)
    steps = {
        step_id: replace(record, undo_queued=False, not_before=None)
        for step_id, record in state.steps.items()
    }
    state = replace(
        state,
        undo=undo,
        undo_count=state.undo_count + 1,
        ended_at=None,
        asked=False,
        stopping="",
        steps=steps,
    )
    return move(state, ExecutionState.ROLLING_BACK, reason=event.reason)


def _undo_queued(event: ev.UndoQueued, state: Execution, at: datetime) -> Execution:
    record = state.steps[event.step_id]
    if record.attempt_ids:
        state = state.with_attempt(record.attempt_ids[-1], judged=True)
    changes = {
        "undo_queued": True,
        "queued_at": at,
        "not_before": parse_time(event.not_before),
        "delayed_at": at,
        "delay_clock": event.clock,
    }
    if record.state is StepState.ROLLING_BACK:
        return state.with_step(event.step_id, **changes)
    return move_step(state, event.step_id, StepState.ROLLING_BACK, **changes)


def _undo_skipped(event: ev.UndoSkipped, state: Execution, at: datetime) -> Execution:
    undo = state.undo
    if undo is None:
        raise ValueError("no undo is under way")
    order = tuple(step_id for step_id in undo.order if step_id != event.step_id)
    state = state.with_step(event.step_id, skip_reason=event.reason)
    return replace(state, undo=replace(undo, order=order))


def _undo_finished(event: ev.UndoFinished, state: Execution, at: datetime) -> Execution:
    record = state.steps[event.step_id]
    if record.attempt_ids:
        state = state.with_attempt(record.attempt_ids[-1], judged=True)
    to = StepState(event.state)
    if record.state is not StepState.ROLLING_BACK:
        state = move_step(state, event.step_id, StepState.ROLLING_BACK)
    return move_step(
        state,
        event.step_id,
        to,
        error=event.error or record.error,
        undo_queued=False,
        undo_tried=state.undo_count,
    )


def _pause_requested(event: ev.PauseRequested, state: Execution, at: datetime) -> Execution:
    return move(state, ExecutionState.PAUSED, reason=event.reason)


def _resume_requested(event: ev.ResumeRequested, state: Execution, at: datetime) -> Execution:
    asked = state.state is ExecutionState.ATTENTION_REQUIRED
    state = move(state, moving(state), reason="", asked=False)
    return show_gate(replace(state, told_to_continue=True) if asked else state)


def _cancel_requested(event: ev.CancelRequested, state: Execution, at: datetime) -> Execution:
    by = f"cancelled by {event.person}" + (f": {event.reason}" if event.reason else "")
    return move(state, ExecutionState.CANCELLING, stopping="cancel", reason=by)


def _plan_timed_out(event: ev.PlanTimedOut, state: Execution, at: datetime) -> Execution:
    reason = f"the plan's time limit of {event.limit_ms / 1000:g} s ran out"
    if state.state in (ExecutionState.PAUSED, ExecutionState.APPROVAL_REQUIRED):
        state = move(state, moving(state))
    return replace(state, stopping="timeout", reason=reason)


def _attention_required(event: ev.AttentionRequired, state: Execution, at: datetime) -> Execution:
    return move(
        state,
        ExecutionState.ATTENTION_REQUIRED,
        reason=event.reason,
        asked=state.asked or not event.step_id,
    )


def _execution_finished(event: ev.ExecutionFinished, state: Execution, at: datetime) -> Execution:
    return move(
        state,
        ExecutionState(event.state),
        ended_at=at,
        reason=event.reason or state.reason,
    )


RULES: Mapping[type[ev.Event], Rule] = {
    ev.RollbackStarted: _rollback_started,
    ev.UndoQueued: _undo_queued,
    ev.UndoSkipped: _undo_skipped,
    ev.UndoFinished: _undo_finished,
    ev.PauseRequested: _pause_requested,
    ev.ResumeRequested: _resume_requested,
    ev.CancelRequested: _cancel_requested,
    ev.PlanTimedOut: _plan_timed_out,
    ev.AttentionRequired: _attention_required,
    ev.ExecutionFinished: _execution_finished,
}
