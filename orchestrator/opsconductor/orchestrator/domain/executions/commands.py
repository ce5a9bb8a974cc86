"""What people ask of an execution, as events; refused in words when the state does not allow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions import rolling_back
from opsconductor.orchestrator.domain.executions.states import (
    ApprovalState,
    ExecutionState,
    StepState,
)
from opsconductor.rpc.errors import (
    AlreadyDecided,
    Expired,
    InvalidArgument,
    InvalidTransition,
    NotFound,
    PointOfNoReturn,
    Superseded,
)

if TYPE_CHECKING:
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import (
        Approval,
        Execution,
        StepRecord,
    )

Events = tuple[ev.Event, ...]

_ROLLBACK_FROM = (
    ExecutionState.COMPLETED,
    ExecutionState.FAILED,
    ExecutionState.TIMED_OUT,
    ExecutionState.UNREACHABLE,
    ExecutionState.CANCELLED,
    ExecutionState.CANCEL_UNVERIFIED,
    ExecutionState.ROLLBACK_FAILED,
    ExecutionState.ATTENTION_REQUIRED,
)

_NOT_STARTED = (StepState.PENDING, StepState.QUEUED, StepState.APPROVAL_REQUIRED)


def cancel(state: Execution, person: str, reason: str) -> Events:
    """Returns the events of a cancel request; none when it is ending or has ended."""
    if not state.open or state.state is ExecutionState.CANCELLING:
        return ()
    return (ev.CancelRequested(person, reason),)


def pause(state: Execution, person: str, reason: str) -> Events:
    """Returns the events of a pause; none when it is paused."""
    if state.state is ExecutionState.PAUSED:
        return ()
    if state.state not in (ExecutionState.QUEUED, ExecutionState.RUNNING):
        raise InvalidTransition(f"an execution that is {state.state} cannot be paused")
    return (ev.PauseRequested(person, reason),)


def resume(state: Execution, person: str) -> Events:
    """Returns the events that let a paused or asking execution go on."""
    if state.state is ExecutionState.ATTENTION_REQUIRED and not state.asked:
        raise InvalidTransition(
            f"{state.reason}: an unknown outcome is decided with `opsctl runs resolve`"
        )
    if state.state not in (ExecutionState.PAUSED, ExecutionState.ATTENTION_REQUIRED):
        raise InvalidTransition(f"an execution that is {state.state} is not paused")
    return (ev.ResumeRequested(person),)


def rollback(state: Execution, person: str, reason: str) -> Events:
    """Returns the events that begin taking back what an execution did."""
    if state.state is ExecutionState.ROLLING_BACK:
        return ()
    if state.state not in _ROLLBACK_FROM:
        hint = "; cancel it first" if state.open else ""
        raise InvalidTransition(f"an execution that is {state.state} cannot be rolled back{hint}")
    if any(step.state is StepState.UNKNOWN for step in state.steps.values()):
        raise InvalidTransition("a step's outcome is unknown: resolve it first")
    if step_id := rolling_back.no_return(state):
        raise PointOfNoReturn(f"step {step_id} is irreversible and may have had effects")
    order = rolling_back.undo_order(state)
    if not order:
        raise InvalidTransition("no step had effects that could be undone")
    asked = f"asked for by {person}" + (f": {reason}" if reason else "")
    # An execution that waits for a person still has steps to come.
    given_up = tuple(
        ev.StepSkipped(step.step_id, "not started: the plan is rolled back")
        for step in state.compiled.steps
        if state.steps[step.step_id].state in _NOT_STARTED
    )
    return (*given_up, ev.RollbackStarted(asked, person, order))


def unknown_step(state: Execution, step_id: str) -> StepRecord:
    """Returns a step whose outcome is unknown. Raises NotFound, InvalidTransition for another."""
    record = state.steps.get(step_id)
    if record is None:
        raise NotFound(f"execution {state.execution_id} has no step {step_id}")
    if record.state is not StepState.UNKNOWN:
        raise InvalidTransition(f"step {step_id} is {record.state}, not unknown")
    return record


def resolve_unknown(
    state: Execution,
    step_id: str,
    resolution: str,
    person: str,
    reason: str,
    *,
    statement: str = "",
    signature: str = "",
) -> Events:
    """Returns the events of a person's decision about an unknown outcome."""
    if not reason:
        raise InvalidArgument("a reason is required: it is the evidence of why this was decided")
    record = unknown_step(state, step_id)
    if not state.open:
        raise InvalidTransition(f"the execution is {state.state}: it cannot go on")
    return (
        ev.UnknownResolved(
            step_id, record.attempt_ids[-1], resolution, person, reason, statement, signature
        ),
    )


def decide(
    state: Execution,
    approval_id: str,
    kind: str,
    person: str,
    reason: str,
    now: datetime,
    *,
    statement: str = "",
    signature: str = "",
) -> Events:
    """Returns the events of a decision.

    Raises:
        NotFound: The execution has no such request.
        AlreadyDecided: The request is final, or this person has decided.
        Expired: Its time ran out.
        Superseded: An edit replaced it.
        InvalidArgument: A reason is missing.
    """
    request = _open_request(state, approval_id, now)
    if any(item.person == person and item.kind == kind for item in request.decisions):
        raise AlreadyDecided(f"{person} has already decided about {approval_id}")
    if kind != "approve" and not reason:
        raise InvalidArgument(f"a reason is required to {kind.replace('_', ' ')}")
    return (ev.DecisionRecorded(approval_id, kind, person, reason, statement, signature),)


def edit(
    state: Execution,
    approval_id: str,
    person: str,
    reason: str,
    plan_document: ev.Json,
    compiled: ev.Json,
    touched: set[str],
    now: datetime,
) -> Events:
    """Returns the events of an edit: the decision, the new revision, and what it voids.

    Raises:
        InvalidTransition: The edit touches a step that has started.
    """
    request = _open_request(state, approval_id, now, changes_requested_too=True)
    started = sorted(
        step_id
        for step_id in touched
        if step_id in state.steps and state.steps[step_id].attempt_ids
    )
    if started:
        raise InvalidTransition(f"step {', '.join(started)} has started and cannot be edited")
    voided = tuple(
        ev.ApprovalClosed(item.approval_id, "superseded", f"edited by {person}")
        for item in state.approvals.values()
        if item.state
        in (ApprovalState.PENDING, ApprovalState.CHANGES_REQUESTED, ApprovalState.APPROVED)
        and (not item.step_id or item.step_id in touched or item is request)
    )
    return (
        ev.DecisionRecorded(request.approval_id, "edit", person, reason),
        ev.PlanRevised(approval_id, person, plan_document, compiled, sorted(touched)),
        *voided,
    )


def _open_request(
    state: Execution, approval_id: str, now: datetime, *, changes_requested_too: bool = False
) -> Approval:
    request = state.approvals.get(approval_id)
    if request is None:
        raise NotFound(f"there is no approval request {approval_id}")
    if request.state is ApprovalState.SUPERSEDED:
        raise Superseded(f"{approval_id} was replaced by an edit of the plan")
    if request.state is ApprovalState.EXPIRED or (
        request.open and request.expires_at and request.expires_at <= now
    ):
        raise Expired(f"{approval_id} expired at {request.expires_at:%Y-%m-%d %H:%M:%S} UTC")
    allowed = request.open or (
        changes_requested_too and request.state is ApprovalState.CHANGES_REQUESTED
    )
    if not allowed:
        raise AlreadyDecided(f"{approval_id} is {request.state}")
    return request
