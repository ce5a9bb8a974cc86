"""One sentence for people: what happened, and how things stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.states import ExecutionState, StepState

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsconductor.orchestrator.domain.executions.execution import Execution, StepRecord


def execution_summary(state: Execution) -> str:
    """Returns how an execution stands, in one sentence."""
    steps = [state.steps[step.step_id] for step in state.compiled.steps]
    done = sum(1 for step in steps if step.state is StepState.COMPLETED)
    count = f"{done} of {len(steps)} step{'s' * (len(steps) != 1)} completed"
    if state.state is ExecutionState.APPROVAL_REQUIRED:
        asked = "; ".join(item.requirement_text for item in state.pending_approvals())
        return f"{count}; waits for approval" + (f" by {asked}" if asked else "")
    words = str(state.state).replace("_", " ")
    return f"{words}: {count}" + (f"; {state.reason}" if state.reason else "")


def step_summary(state: Execution, record: StepRecord) -> str:
    """Returns how a step stands, in one sentence."""
    step = state.compiled_step(record.step_id)
    where = f" on {step.target_name}" if step.target_name else ""
    words = str(record.state).replace("_", " ")
    why = (record.error or {}).get("message") or record.skip_reason
    resolved = f" (decided by {record.resolved_by})" if record.resolved_by else ""
    late = [item for name in record.attempt_ids if (item := state.attempts[name].late)]
    said = f"; its agent said later: {late[-1]}" if late else ""
    return f"{step.tool}{where} {words}{resolved}" + (f": {why}" if why else "") + said


def tell(state: Execution, event: ev.Event) -> str:
    """Returns what an event means, in one sentence; ``state`` is that after it."""
    teller = _TELLERS.get(type(event))
    if teller:
        return teller(state, event)
    words = ev.name_of(event).replace("_", " ")
    reason = getattr(event, "reason", "")
    return words + (f": {reason}" if reason else "")


def _granted(state: Execution, event: ev.AttemptGranted) -> str:
    what = "undo of " if event.kind == "undo" else ""
    again = f", attempt {event.number}" if event.number > 1 else ""
    return f"{what}step {event.step_id}{again} was given to an agent: {event.routing_reason}"


def _ended(state: Execution, event: ev.AttemptFinished) -> str:
    attempt = state.attempts[event.attempt_id]
    what = "undo of step" if attempt.kind == "undo" else "step"
    error = (event.error or {}).get("message", "")
    words = event.state.replace("_", " ")
    return f"{what} {attempt.step_id}: attempt {attempt.number} {words}" + (
        f": {error}" if error else ""
    )


def _started(state: Execution, event: ev.AttemptStarted) -> str:
    attempt = state.attempts[event.attempt_id]
    return f"step {attempt.step_id} started: {event.command}"


def _recovered(state: Execution, event: ev.AttemptRecovered) -> str:
    words = event.report["state"].replace("_", " ")
    return (
        f"the journal of its agent holds attempt {event.number} of step {event.step_id}, which "
        f"the restored store had forgotten: {words}"
    )


def _late(state: Execution, event: ev.LateEvidence) -> str:
    attempt = state.attempts[event.attempt_id]
    return (
        f"step {attempt.step_id}: the agent of attempt {attempt.number} now says "
        f"{attempt.late}; the record stands"
    )


def _step_finished(state: Execution, event: ev.StepFinished) -> str:
    return step_summary(state, state.steps[event.step_id])


def _submitted(state: Execution, event: ev.Submitted) -> str:
    return f"{event.requester} submitted {state.compiled.name or state.compiled.plan_id}"


def _asked(state: Execution, event: ev.ApprovalRequested) -> str:
    what = f"step {event.step_id}" if event.step_id else "the plan"
    return f"approval of {what} is asked for: {event.requirement_text}"


def _decided(state: Execution, event: ev.DecisionRecorded) -> str:
    words = {"approve": "approved", "reject": "rejected", "edit": "edited"}
    said = words.get(event.kind, "asked for changes")
    return f"{event.person} {said}" + (f": {event.reason}" if event.reason else "")


def _auto(state: Execution, event: ev.AutoApproved) -> str:
    policy = f"policy {event.policy} {event.policy_version}"
    return f"no approval of the whole plan is needed by {policy}, rule {event.rule}"


def _undo_finished(state: Execution, event: ev.UndoFinished) -> str:
    error = (event.error or {}).get("message", "")
    words = event.state.replace("_", " ")
    return f"step {event.step_id} {words}" + (f": {error}" if error else "")


def _finished(state: Execution, event: ev.ExecutionFinished) -> str:
    return execution_summary(state)


_TELLERS: dict[type[ev.Event], Callable[[Execution, ev.Event], str]] = {
    ev.Submitted: _submitted,  # type: ignore[dict-item]
    ev.ApprovalRequested: _asked,  # type: ignore[dict-item]
    ev.DecisionRecorded: _decided,  # type: ignore[dict-item]
    ev.AutoApproved: _auto,  # type: ignore[dict-item]
    ev.AttemptGranted: _granted,  # type: ignore[dict-item]
    ev.AttemptStarted: _started,  # type: ignore[dict-item]
    ev.AttemptFinished: _ended,  # type: ignore[dict-item]
    ev.AttemptRecovered: _recovered,  # type: ignore[dict-item]
    ev.LateEvidence: _late,  # type: ignore[dict-item]
    ev.StepFinished: _step_finished,  # type: ignore[dict-item]
    ev.UndoFinished: _undo_finished,  # type: ignore[dict-item]
    ev.ExecutionFinished: _finished,  # type: ignore[dict-item]
}
