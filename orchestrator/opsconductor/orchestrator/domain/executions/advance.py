"""``advance``: what happens next in one execution, decided from its state and the time alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions import rolling_back, starting
from opsconductor.orchestrator.domain.executions.execution import (
    FORWARD,
    UNDO,
    WAITS_FOR_PEOPLE,
    Approval,
    Execution,
    StepRecord,
)
from opsconductor.orchestrator.domain.executions.fold import apply
from opsconductor.orchestrator.domain.executions.judging import judge_forward
from opsconductor.orchestrator.domain.executions.place import due_at
from opsconductor.orchestrator.domain.executions.recovering import (
    before_the_end,
    take_recovered,
    undos_begun,
)
from opsconductor.orchestrator.domain.executions.states import (
    ApprovalState,
    AttemptState,
    ExecutionState,
    StepState,
)
from opsconductor.orchestrator.domain.plans import approval as approvals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

Events = tuple[ev.Event, ...]

_BEFORE_THE_END = (
    ExecutionState.PENDING,
    ExecutionState.QUEUED,
    ExecutionState.RUNNING,
    ExecutionState.APPROVAL_REQUIRED,
)

_NOT_KNOWN_TO_BE_OVER = (AttemptState.UNKNOWN, AttemptState.CANCEL_UNVERIFIED)

_NOT_SUCCEEDED = (
    StepState.FAILED,
    StepState.TIMED_OUT,
    StepState.UNREACHABLE,
    StepState.CANCELLED,
    StepState.CANCEL_UNVERIFIED,
)


def settle(
    state: Execution, now: datetime, given: Sequence[ev.Event] = (), *, keeps_time: bool = True
) -> tuple[Execution, list[ev.Recorded]]:
    """Applies given events and then everything that follows from them, until nothing does.

    Args:
        state: Where it stands.
        now: The time of day.
        given: What happened.
        keeps_time: Whether it is up to the caller, and its clock, to end a plan at its time limit.

    Returns:
        The settled state and all events, numbered.
    """
    recorded: list[ev.Recorded] = []
    batch: Sequence[ev.Event] = given
    while True:
        for event in batch:
            item = ev.Recorded(state.last_seq + 1, now, event)
            state = apply(state, item)
            recorded.append(item)
        batch = advance(state, now, keeps_time=keeps_time)
        if not batch:
            return state, recorded


def advance(state: Execution, now: datetime, *, keeps_time: bool = True) -> Events:
    """Returns the next events of an execution; none when it waits for something."""
    if not state.open:
        return _revoke_open_approvals(state, "the execution ended")
    for rule in _RULES:
        if rule is _time_out_plan and not keeps_time:
            continue
        if events := rule(state, now):
            return events
    return ()


def next_deadline(state: Execution, now: datetime) -> datetime | None:
    """Returns when ``advance`` has to be asked again although nothing happened.

    Args:
        state: An execution that is settled and placed as of ``now``.
        now: Times up to here have had their say: what still waits then waits for something else.
    """
    times = [item.expires_at for item in state.pending_approvals() if item.expires_at]
    if not state.stopping and (limit := _plan_deadline(state)):
        times.append(limit)
    times += [
        due
        for step in state.steps.values()
        if (step.state is StepState.QUEUED or step.undo_queued) and (due := due_at(state, step))
    ]
    return min((time for time in times if time > now), default=None)


# Rules, in the order in which they are asked


def _open_gates(state: Execution, now: datetime) -> Events:
    """Asks for the plan's approval, or records why nobody is asked; anew after an edit."""
    if state.state not in _BEFORE_THE_END or state.stopping:
        return ()
    gate = state.compiled.gates.plan
    if gate is None:
        policy = state.compiled.policy
        rule = "step-by-step" if state.compiled.gates.any else state.compiled.level.rule
        known = state.auto_approved_by
        return () if known else (ev.AutoApproved(rule, policy["name"], policy["version"]),)
    if any(
        not item.step_id and item.state is not ApprovalState.SUPERSEDED
        for item in state.approvals.values()
    ):
        return ()
    return (starting.request(state, "", gate, now),)


def _judge_approvals(state: Execution, now: datetime) -> Events:
    if state.state in (ExecutionState.CANCELLING, ExecutionState.ROLLING_BACK):
        return _revoke_open_approvals(state, f"the execution is {state.state}")
    for request in state.pending_approvals():
        verdict = approvals.judge(
            approvals.Requirement.from_json(request.requirement),
            request.decisions,
            requester=state.requester,
            submitted_by=state.submitted_by,
            expires_at=request.expires_at,
            now=now,
        )
        if verdict.state != ApprovalState.PENDING:
            reason = _verdict_reason(request, verdict)
            return (ev.ApprovalClosed(request.approval_id, verdict.state, reason),)
    return ()


def _verdict_reason(request: Approval, verdict: approvals.Verdict) -> str:
    if verdict.state == ApprovalState.APPROVED:
        return "approved by " + ", ".join(verdict.approvers)
    if verdict.state == ApprovalState.EXPIRED:
        return f"nobody decided in time: {verdict.missing}"
    words = [item.reason for item in request.decisions if item.person == verdict.decided_by]
    return f"{verdict.state.replace('_', ' ')} by {verdict.decided_by}: {words[-1]}"


def _time_out_plan(state: Execution, now: datetime) -> Events:
    limit = _plan_deadline(state)
    ending = (ExecutionState.CANCELLING, ExecutionState.ROLLING_BACK)
    if state.stopping or state.state in ending or limit is None or now < limit:
        return ()
    return (ev.PlanTimedOut(state.compiled.timeout_ms),)


def _plan_deadline(state: Execution) -> datetime | None:
    timeout = state.compiled.timeout
    if timeout is None or state.started_at is None:
        return None
    return state.started_at + timeout + state.clock.moved_since(state.started_clock)


def _judge_attempts(state: Execution, now: datetime) -> Events:
    for attempt in state.attempts.values():
        if attempt.live or attempt.judged:
            continue
        record = state.steps[attempt.step_id]
        if record.attempt_ids[-1] != attempt.attempt_id:
            continue
        if attempt.kind == FORWARD and record.state is StepState.RUNNING:
            return (judge_forward(state, attempt, now),)
        if attempt.kind == UNDO and record.state is StepState.ROLLING_BACK:
            return (rolling_back.judge_undo(state, attempt, now),)
    return ()


def _cancel(state: Execution, now: datetime) -> Events:
    if state.state is not ExecutionState.CANCELLING or _live(state):
        return ()
    if begun := before_the_end(state):
        return begun
    left = _left_behind(state)
    ended = (*_skip_rest(state), *rolling_back.give_up(state))
    if left:
        reason = f"{state.reason}; what {', '.join(left)} left behind could not be verified"
        return (*ended, ev.ExecutionFinished("cancel_unverified", reason))
    return (*ended, ev.ExecutionFinished("cancelled", state.reason))


def _left_behind(state: Execution) -> list[str]:
    """Returns what may still be doing something although nobody wants it any more."""
    steps = [
        step.step_id
        for step in state.steps.values()
        if step.state in (StepState.CANCEL_UNVERIFIED, StepState.UNKNOWN)
    ]
    attempts = [
        f"the undo of {attempt.step_id}" if attempt.kind == UNDO else attempt.step_id
        for attempt in state.attempts.values()
        if (attempt.kind == UNDO and attempt.state in _NOT_KNOWN_TO_BE_OVER)
        or (attempt.state is AttemptState.TIMED_OUT and attempt.survivors)
    ]
    return [
        *dict.fromkeys(steps + attempts),
        *(f"the undo of {name}" for name in undos_begun(state)),
    ]


def _undo(state: Execution, now: datetime) -> Events:
    if state.state is not ExecutionState.ROLLING_BACK or _live(state):
        return ()
    return rolling_back.next_events(state)


def _ask_about_unknown(state: Execution, now: datetime) -> Events:
    if not _moving(state):
        return ()
    for step in state.steps.values():
        if step.state is StepState.UNKNOWN:
            reason = (
                f"the outcome of step {step.step_id} is unknown; look, then `opsctl runs resolve`"
            )
            return (ev.AttentionRequired(reason, step.step_id),)
    return ()


def _stop(state: Execution, now: datetime) -> Events:
    if not _moving(state) or not _must_stop(state):
        return ()
    if _live(state):
        return ()
    if begun := before_the_end(state):
        return begun
    mode = state.compiled.on_failure
    skipped = _skip_rest(state)
    final = _final_state(state)
    if mode == "rollback" and state.started_at:
        return (*skipped, *rolling_back.begin(state, _stop_reason(state), final))
    if mode == "ask" and not state.stopping:
        reason = f"{_stop_reason(state)}; resume to go on without it, roll back, or cancel"
        return (ev.AttentionRequired(reason),)
    return (*skipped, ev.ExecutionFinished(final, _stop_reason(state)))


def _start_ready(state: Execution, now: datetime) -> Events:
    if not _moving(state) or _must_stop(state):
        return ()
    events: list[ev.Event] = []
    for step in state.compiled.steps:
        record = state.steps[step.step_id]
        if record.state is StepState.PENDING and starting.needs_ended(state, step):
            events.append(starting.ready(state, step, now))
        elif record.state is StepState.APPROVAL_REQUIRED:
            events += starting.after_gate(state, step, now)
    return tuple(events)


def _finish(state: Execution, now: datetime) -> Events:
    if not _moving(state) or any(
        not state.steps[step.step_id].ended for step in state.compiled.steps
    ):
        return ()
    final = _final_state(state)
    return (ev.ExecutionFinished(final, "" if final == "completed" else _stop_reason(state)),)


_RULES: tuple[Callable[[Execution, datetime], Events], ...] = (
    _open_gates,
    _judge_approvals,
    _time_out_plan,
    _judge_attempts,
    _cancel,
    _undo,
    _ask_about_unknown,
    _stop,
    _start_ready,
    take_recovered,
    _finish,
)


# Their vocabulary


def _moving(state: Execution) -> bool:
    """Tells whether steps of the plan may start or be given up."""
    if state.state in (ExecutionState.RUNNING, ExecutionState.QUEUED):
        return True
    return state.state is ExecutionState.APPROVAL_REQUIRED and (
        bool(state.stopping) or not state.plan_gate_open
    )


def _live(state: Execution) -> bool:
    return any(True for _ in state.live_attempts())


def _must_stop(state: Execution) -> bool:
    if state.stopping:
        return True
    if state.compiled.on_failure == "continue" or state.told_to_continue:
        return False
    return any(_failed(state))


def _failed(state: Execution) -> list[StepRecord]:
    return [
        state.steps[step.step_id]
        for step in state.compiled.steps
        if state.steps[step.step_id].state in _NOT_SUCCEEDED
    ]


def _skip_rest(state: Execution) -> Events:
    reason = f"not started: {state.reason or _stop_reason(state)}"
    waiting = (StepState.PENDING, StepState.QUEUED, StepState.APPROVAL_REQUIRED)
    return tuple(
        ev.StepSkipped(step.step_id, reason)
        for step in state.compiled.steps
        if state.steps[step.step_id].state in waiting
    )


def _stop_reason(state: Execution) -> str:
    if state.stopping:
        return state.reason or state.stopping
    sentences = [
        f"step {step.step_id} {str(step.state).replace('_', ' ')}"
        + (f": {step.error['message']}" if step.error else "")
        for step in _failed(state)
    ]
    return "; ".join(sentences)


def _final_state(state: Execution) -> str:
    if state.stopping == "timeout":
        return "timed_out"
    if state.stopping:
        return state.stopping
    ended = {step.state for step in _failed(state)}
    if not ended:
        return "completed"
    if ended == {StepState.TIMED_OUT}:
        return "timed_out"
    if ended == {StepState.UNREACHABLE}:
        return "unreachable"
    return "failed"


def _revoke_open_approvals(state: Execution, reason: str) -> Events:
    return tuple(
        ev.ApprovalClosed(item.approval_id, "revoked", reason)
        for item in state.approvals.values()
        if item.state in WAITS_FOR_PEOPLE
    )
