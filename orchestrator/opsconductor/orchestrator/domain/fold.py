"""``apply``: what each event makes of an execution. The only place where state changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import singledispatch
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain import events as ev
from opsconductor.orchestrator.domain.compiled import CompiledPlan
from opsconductor.orchestrator.domain.execution import (
    FORWARD,
    UNDO,
    Approval,
    Attempt,
    Decision,
    Execution,
    StepRecord,
    Undo,
)
from opsconductor.orchestrator.domain.states import (
    APPROVAL_TRANSITIONS,
    ATTEMPT_TRANSITIONS,
    EXECUTION_TRANSITIONS,
    STEP_TRANSITIONS,
    ApprovalState,
    AttemptState,
    ExecutionState,
    StepState,
    transition,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


def fold(state: Execution | None, recorded: Iterable[ev.Recorded]) -> Execution:
    """Applies recorded events in order; raises ValueError when there is nothing to fold."""
    for item in recorded:
        state = apply(state, item)
    if state is None:
        raise ValueError("an execution begins with a submitted event")
    return state


def apply(state: Execution | None, recorded: ev.Recorded) -> Execution:
    """Returns the execution after an event.

    Raises:
        InvalidTransition: The event takes an edge that is not in the tables.
        ValueError: The event is not the next one.
    """
    event, at = recorded.event, recorded.at
    if state is None:
        if not isinstance(event, ev.Submitted):
            raise ValueError(f"an execution begins with submitted, not {ev.name_of(event)}")
        return replace(_submitted(event, at), last_seq=recorded.seq)
    if recorded.seq != state.last_seq + 1:
        raise ValueError(f"event {recorded.seq} does not follow {state.last_seq}")
    return replace(_apply(event, state, at), last_seq=recorded.seq)


def move(state: Execution, to: ExecutionState, **changes: object) -> Execution:
    """Returns the execution in another state; the same state is no edge and changes nothing."""
    if state.state is not to:
        transition(EXECUTION_TRANSITIONS, state.state, to)
    return replace(state, state=to, **changes)  # type: ignore[arg-type]


def move_step(state: Execution, step_id: str, to: StepState, **changes: object) -> Execution:
    """Returns the execution with one step in another state."""
    transition(STEP_TRANSITIONS, state.steps[step_id].state, to)
    return state.with_step(step_id, state=to, **changes)


def parse_time(text: str) -> datetime | None:
    """Reads RFC 3339 text; None for empty text."""
    return datetime.fromisoformat(text) if text else None


def _submitted(event: ev.Submitted, at: datetime) -> Execution:
    compiled = CompiledPlan.from_json(event.compiled)
    return Execution(
        execution_id=event.execution_id,
        tenant=event.tenant,
        external_id=event.external_id,
        plan_document=event.plan_document,
        revisions=(compiled,),
        requester=event.requester,
        submitted_by=event.submitted_by,
        trace_id=event.trace_id,
        span_id=event.span_id,
        parent_span_id=event.parent_span_id,
        created_at=at,
        request_id=event.request_id,
        request_hash=event.request_hash,
        steps=_records(compiled),
    )


def _records(compiled: CompiledPlan) -> dict[str, StepRecord]:
    return {
        step.step_id: StepRecord(step.step_id) for step in (*compiled.steps, *compiled.rollback)
    }


@singledispatch
def _apply(event: ev.Event, state: Execution, at: datetime) -> Execution:
    raise ValueError(f"no rule for {ev.name_of(event)}")


@_apply.register
def _(event: ev.AutoApproved, state: Execution, at: datetime) -> Execution:
    return move(
        state, ExecutionState.QUEUED, auto_approved_by=f"policy:{event.rule}", approved_at=at
    )


@_apply.register
def _(event: ev.ApprovalRequested, state: Execution, at: datetime) -> Execution:
    approvals = dict(state.approvals)
    approvals[event.approval_id] = Approval(
        approval_id=event.approval_id,
        step_id=event.step_id,
        level=event.level,
        reasons=tuple(event.reasons),
        requirement=event.requirement,
        requirement_text=event.requirement_text,
        plan_digest=event.plan_digest,
        step_ids=tuple(event.step_ids),
        revision=event.revision,
        created_at=at,
        expires_at=parse_time(event.expires_at),
    )
    state = replace(state, approvals=approvals)
    if not event.step_id:
        return move(state, ExecutionState.APPROVAL_REQUIRED, reason="")
    if state.steps[event.step_id].state is StepState.PENDING:
        state = move_step(state, event.step_id, StepState.APPROVAL_REQUIRED)
    return _show_gate(state)


def _show_gate(state: Execution) -> Execution:
    """Shows a running execution as waiting for approval while nothing else moves."""
    waiting = any(approval.step_id for approval in state.pending_approvals())
    busy = any(True for _ in state.live_attempts()) or any(
        step.state is StepState.QUEUED for step in state.steps.values()
    )
    if waiting and not busy and state.state in (ExecutionState.RUNNING, ExecutionState.QUEUED):
        return move(state, ExecutionState.APPROVAL_REQUIRED)
    if busy and state.state is ExecutionState.APPROVAL_REQUIRED and not _plan_gate_open(state):
        to = ExecutionState.RUNNING if state.started_at else ExecutionState.QUEUED
        return move(state, to)
    return state


def _plan_gate_open(state: Execution) -> bool:
    return any(
        not approval.step_id
        and approval.state in (ApprovalState.PENDING, ApprovalState.CHANGES_REQUESTED)
        for approval in state.approvals.values()
    )


@_apply.register
def _(event: ev.DecisionRecorded, state: Execution, at: datetime) -> Execution:
    approval = state.approvals[event.approval_id]
    decision = Decision(
        event.kind, event.person, at, event.reason, event.statement, event.signature
    )
    return state.with_approval(event.approval_id, decisions=(*approval.decisions, decision))


@_apply.register
def _(event: ev.ApprovalClosed, state: Execution, at: datetime) -> Execution:
    approval = state.approvals[event.approval_id]
    to = transition(APPROVAL_TRANSITIONS, approval.state, ApprovalState(event.state))
    state = state.with_approval(event.approval_id, state=to, closed_at=at)
    if to in (ApprovalState.REJECTED, ApprovalState.EXPIRED) and not state.stopping:
        return replace(state, stopping=str(to), reason=event.reason)
    if to is not ApprovalState.APPROVED:
        return state
    state = replace(state, approved_at=at)
    if approval.step_id:
        return state
    return move(state, ExecutionState.QUEUED)


@_apply.register
def _(event: ev.PlanRevised, state: Execution, at: datetime) -> Execution:
    compiled = CompiledPlan.from_json(event.compiled)
    touched = set(event.touched)
    fresh = _records(compiled)
    steps = {
        step_id: state.steps[step_id]
        if step_id in state.steps and step_id not in touched
        else record
        for step_id, record in fresh.items()
    }
    return replace(
        state,
        revisions=(*state.revisions, compiled),
        plan_document=event.plan_document,
        steps=steps,
    )


@_apply.register
def _(event: ev.StepQueued, state: Execution, at: datetime) -> Execution:
    state = move_step(
        state, event.step_id, StepState.QUEUED, queued_at=at, late_inputs=event.late_inputs
    )
    return _show_gate(state)


@_apply.register
def _(event: ev.StepSkipped, state: Execution, at: datetime) -> Execution:
    return move_step(
        state,
        event.step_id,
        StepState.SKIPPED,
        ended_at=at,
        skipped_by_condition=event.by_condition,
        skip_reason=event.reason,
    )


@_apply.register
def _(event: ev.AttemptGranted, state: Execution, at: datetime) -> Execution:
    attempts = dict(state.attempts)
    attempts[event.attempt_id] = Attempt(
        attempt_id=event.attempt_id,
        step_id=event.step_id,
        kind=event.kind,
        number=event.number,
        agent_id=event.agent_id,
        session_epoch=event.session_epoch,
        routing_reason=event.routing_reason,
        granted_at=at,
    )
    record = state.steps[event.step_id]
    state = replace(state, attempts=attempts, started_at=state.started_at or at)
    ids = (*record.attempt_ids, event.attempt_id)
    if event.kind == UNDO:
        return state.with_step(event.step_id, attempt_ids=ids, undo_queued=False, not_before=None)
    state = move_step(
        state,
        event.step_id,
        StepState.RUNNING,
        attempt_ids=ids,
        started_at=record.started_at or at,
        start_order=record.start_order or event.start_order,
        not_before=None,
    )
    if state.state is ExecutionState.QUEUED:
        return move(state, ExecutionState.RUNNING)
    return _show_gate(state)


@_apply.register
def _(event: ev.AttemptStarted, state: Execution, at: datetime) -> Execution:
    attempt = state.attempts[event.attempt_id]
    state = state.with_attempt(
        event.attempt_id,
        state=transition(ATTEMPT_TRANSITIONS, attempt.state, AttemptState.RUNNING),
        started_at=parse_time(event.started_at) or at,
        captured=event.captured,
        command=event.command,
    )
    if attempt.kind == FORWARD and state.compiled_step(attempt.step_id).changes:
        return state.with_step(attempt.step_id, effects="possible")
    return state


@_apply.register
def _(event: ev.AttemptFinished, state: Execution, at: datetime) -> Execution:
    attempt = state.attempts[event.attempt_id]
    to = transition(ATTEMPT_TRANSITIONS, attempt.state, AttemptState(event.state))
    state = state.with_attempt(
        event.attempt_id,
        state=to,
        started_at=parse_time(event.started_at) or attempt.started_at,
        ended_at=parse_time(event.ended_at) or at,
        exit_code=event.exit_code,
        error=event.error,
        output=event.output,
        captured=event.captured if event.captured is not None else attempt.captured,
        command=event.command or attempt.command,
        effects=event.effects,
        stdout_bytes=event.stdout_bytes,
        stderr_bytes=event.stderr_bytes,
        stdout_sha256=event.stdout_sha256,
        stderr_sha256=event.stderr_sha256,
        survivors=tuple(event.survivors),
    )
    if attempt.kind == FORWARD:
        record = state.steps[attempt.step_id]
        return state.with_step(
            attempt.step_id, effects=_worse(record, state, attempt, event.effects)
        )
    return state


_EFFECTS = ("none", "possible", "done")


def _worse(record: StepRecord, state: Execution, attempt: Attempt, effects: str) -> str:
    """Returns what the step may have changed over all its attempts, this one's end included."""
    earlier = [
        other.effects or "possible"
        for other in state.attempts_of(attempt.step_id, FORWARD)
        if other.attempt_id != attempt.attempt_id
    ]
    return max((effects, *earlier), key=_EFFECTS.index)


@_apply.register
def _(event: ev.RetryScheduled, state: Execution, at: datetime) -> Execution:
    record = state.steps[event.step_id]
    last = record.attempt_ids[-1]
    state = state.with_attempt(last, judged=True)
    return move_step(
        state, event.step_id, StepState.QUEUED, not_before=parse_time(event.not_before)
    )


@_apply.register
def _(event: ev.StepFinished, state: Execution, at: datetime) -> Execution:
    record = state.steps[event.step_id]
    if record.attempt_ids:
        state = state.with_attempt(record.attempt_ids[-1], judged=True)
    return move_step(
        state,
        event.step_id,
        StepState(event.state),
        ended_at=at,
        error=event.error,
        output=event.output,
    )


@_apply.register
def _(event: ev.UnknownResolved, state: Execution, at: datetime) -> Execution:
    if event.resolution == "retry":
        state = replace(
            state,
            resolutions=(
                *state.resolutions,
                (event.attempt_id, event.statement, event.signature),
            ),
        )
        state = move_step(state, event.step_id, StepState.QUEUED, not_before=None, queued_at=at)
    else:
        state = move_step(
            state,
            event.step_id,
            StepState(event.resolution),
            effects="done" if event.resolution == "completed" else "possible",
            resolved_by=event.person,
        )
    waiting = any(step.state is StepState.UNKNOWN for step in state.steps.values())
    if state.state is ExecutionState.ATTENTION_REQUIRED and not waiting:
        return move(state, ExecutionState.RUNNING)
    return state


@_apply.register
def _(event: ev.RollbackStarted, state: Execution, at: datetime) -> Execution:
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


@_apply.register
def _(event: ev.UndoQueued, state: Execution, at: datetime) -> Execution:
    record = state.steps[event.step_id]
    if record.attempt_ids:
        state = state.with_attempt(record.attempt_ids[-1], judged=True)
    changes = {"undo_queued": True, "queued_at": at, "not_before": parse_time(event.not_before)}
    if record.state is StepState.ROLLING_BACK:
        return state.with_step(event.step_id, **changes)
    return move_step(state, event.step_id, StepState.ROLLING_BACK, **changes)


@_apply.register
def _(event: ev.UndoSkipped, state: Execution, at: datetime) -> Execution:
    undo = state.undo
    if undo is None:
        raise ValueError("no undo is under way")
    order = tuple(step_id for step_id in undo.order if step_id != event.step_id)
    state = state.with_step(event.step_id, skip_reason=event.reason)
    return replace(state, undo=replace(undo, order=order))


@_apply.register
def _(event: ev.UndoFinished, state: Execution, at: datetime) -> Execution:
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


@_apply.register
def _(event: ev.PauseRequested, state: Execution, at: datetime) -> Execution:
    return move(state, ExecutionState.PAUSED, reason=event.reason)


@_apply.register
def _(event: ev.ResumeRequested, state: Execution, at: datetime) -> Execution:
    asked = state.state is ExecutionState.ATTENTION_REQUIRED
    to = ExecutionState.RUNNING if state.started_at else ExecutionState.QUEUED
    state = move(state, to, reason="", asked=False)
    return replace(state, told_to_continue=True) if asked else state


@_apply.register
def _(event: ev.CancelRequested, state: Execution, at: datetime) -> Execution:
    by = f"cancelled by {event.person}" + (f": {event.reason}" if event.reason else "")
    return move(state, ExecutionState.CANCELLING, stopping="cancel", reason=by)


@_apply.register
def _(event: ev.PlanTimedOut, state: Execution, at: datetime) -> Execution:
    reason = f"the plan's time limit of {event.limit_ms / 1000:g} s ran out"
    if state.state in (ExecutionState.PAUSED, ExecutionState.APPROVAL_REQUIRED):
        state = move(state, ExecutionState.RUNNING if state.started_at else ExecutionState.QUEUED)
    return replace(state, stopping="timeout", reason=reason)


@_apply.register
def _(event: ev.AttentionRequired, state: Execution, at: datetime) -> Execution:
    return move(
        state,
        ExecutionState.ATTENTION_REQUIRED,
        reason=event.reason,
        asked=state.asked or not event.step_id,
    )


@_apply.register
def _(event: ev.ExecutionFinished, state: Execution, at: datetime) -> Execution:
    return move(
        state,
        ExecutionState(event.state),
        ended_at=at,
        reason=event.reason or state.reason,
    )
