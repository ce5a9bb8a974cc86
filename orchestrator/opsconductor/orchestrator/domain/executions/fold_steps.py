"""What the events of steps and attempts make of an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.changing import replace
from opsconductor.orchestrator.domain.executions.execution import FORWARD, UNDO, Attempt
from opsconductor.orchestrator.domain.executions.moves import move, move_step, parse_time, show_gate
from opsconductor.orchestrator.domain.executions.states import (
    ATTEMPT_TRANSITIONS,
    AttemptState,
    ExecutionState,
    StepState,
    transition,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Execution, StepRecord
    from opsconductor.orchestrator.domain.executions.moves import Rule


def _step_queued(event: ev.StepQueued, state: Execution, at: datetime) -> Execution:
    state = move_step(
        state, event.step_id, StepState.QUEUED, queued_at=at, late_inputs=event.late_inputs
    )
    return show_gate(state)


def _step_skipped(event: ev.StepSkipped, state: Execution, at: datetime) -> Execution:
    state = move_step(
        state,
        event.step_id,
        StepState.SKIPPED,
        ended_at=at,
        skipped_by_condition=event.by_condition,
        skip_reason=event.reason,
    )
    return show_gate(state)


def _attempt_granted(event: ev.AttemptGranted, state: Execution, at: datetime) -> Execution:
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
    state = replace(state, attempts=attempts)
    if state.started_at is None:
        state = replace(state, started_at=at, started_clock=event.clock)
    ids = (*record.attempt_ids, event.attempt_id)
    if event.kind == UNDO:
        return state.with_step(event.step_id, attempt_ids=ids, undo_queued=False, not_before=None)
    # Undo goes by the order in which steps began to have effects; what had none is no begin.
    never_began = all(
        state.attempts[attempt_id].effects == "none" for attempt_id in record.attempt_ids
    )
    state = move_step(
        state,
        event.step_id,
        StepState.RUNNING,
        attempt_ids=ids,
        started_at=record.started_at or at,
        start_order=event.start_order if never_began else record.start_order,
        not_before=None,
    )
    if state.state is ExecutionState.QUEUED:
        return move(state, ExecutionState.RUNNING)
    return show_gate(state)


def _attempt_started(event: ev.AttemptStarted, state: Execution, at: datetime) -> Execution:
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


def _attempt_finished(event: ev.AttemptFinished, state: Execution, at: datetime) -> Execution:
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
        gaps=tuple(event.gaps),
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


def _retry_scheduled(event: ev.RetryScheduled, state: Execution, at: datetime) -> Execution:
    record = state.steps[event.step_id]
    last = record.attempt_ids[-1]
    state = state.with_attempt(last, judged=True)
    return move_step(
        state,
        event.step_id,
        StepState.QUEUED,
        not_before=parse_time(event.not_before),
        delayed_at=at,
        delay_clock=event.clock,
    )


def _step_finished(event: ev.StepFinished, state: Execution, at: datetime) -> Execution:
    record = state.steps[event.step_id]
    if record.attempt_ids:
        state = state.with_attempt(record.attempt_ids[-1], judged=True)
    state = move_step(
        state,
        event.step_id,
        StepState(event.state),
        ended_at=at,
        error=event.error,
        output=event.output,
    )
    return show_gate(state)


def _unknown_resolved(event: ev.UnknownResolved, state: Execution, at: datetime) -> Execution:
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
        state = move(state, ExecutionState.RUNNING, reason="")
    return show_gate(state)


def _attempt_recovered(event: ev.AttemptRecovered, state: Execution, at: datetime) -> Execution:
    state = replace(state, recovered={**state.recovered, event.attempt_id: event})
    if event.kind != FORWARD:
        return state
    # Known at once: whatever becomes of the step here, nobody may read that nothing happened.
    record = state.steps[event.step_id]
    effects = max((record.effects, event.report["effects"]), key=_EFFECTS.index)
    return state.with_step(event.step_id, effects=effects)


def _late_evidence(event: ev.LateEvidence, state: Execution, at: datetime) -> Execution:
    said = event.state.replace("_", " ")
    if event.error:
        said += f" ({event.error.get('message', '')})"
    return state.with_attempt(event.attempt_id, late=said)


RULES: Mapping[type[ev.Event], Rule] = {
    ev.StepQueued: _step_queued,
    ev.StepSkipped: _step_skipped,
    ev.AttemptGranted: _attempt_granted,
    ev.AttemptStarted: _attempt_started,
    ev.AttemptFinished: _attempt_finished,
    ev.AttemptRecovered: _attempt_recovered,
    ev.LateEvidence: _late_evidence,
    ev.RetryScheduled: _retry_scheduled,
    ev.StepFinished: _step_finished,
    ev.UnknownResolved: _unknown_resolved,
}
