"""What becomes of a step whose turn has come: skipped, gated, queued, or failed before it began."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.execution import WAITS_FOR_PEOPLE
from opsconductor.orchestrator.domain.executions.states import ApprovalState
from opsconductor.rpc import ids
from opsconductor.tool_registry import expressions

if TYPE_CHECKING:
    from collections.abc import Container
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.domain.executions.place import ReadyStep
    from opsconductor.orchestrator.domain.plans import approval as approvals
    from opsconductor.orchestrator.domain.plans.compiled import CompiledStep


def request(
    state: Execution, step_id: str, gate: approvals.Gate, now: datetime
) -> ev.ApprovalRequested:
    """Returns the event that asks people about the plan, or about one step."""
    revision = len(state.revisions)
    return ev.ApprovalRequested(
        approval_id=ids.derive("appr", state.execution_id, step_id, str(revision)),
        step_id=step_id,
        level=gate.level,
        reasons=list(gate.reasons),
        requirement=gate.requirement.to_json(),
        requirement_text=gate.requirement.words(),
        plan_digest=state.compiled.plan_digest,
        step_ids=list(gate.step_ids),
        revision=revision,
        expires_at=_expiry(gate, now),
    )


def _expiry(gate: approvals.Gate, now: datetime) -> str:
    if not gate.requirement.expires_ms:
        return ""
    return (now + timedelta(milliseconds=gate.requirement.expires_ms)).isoformat()


def needs_ended(state: Execution, step: CompiledStep) -> bool:
    """Tells whether everything a step waits for has ended."""
    return all(state.steps[need].ended for need in step.needs)


def ready(state: Execution, step: CompiledStep, now: datetime) -> ev.Event:
    """Returns what becomes of a step whose needs have ended: skipped, gated, queued or failed."""
    missing = [need for need in step.needs if not state.steps[need].succeeded]
    if missing:
        return ev.StepSkipped(
            step.step_id, f"it needs {', '.join(missing)}, which did not complete"
        )
    condition = step.body["if"]
    if condition:
        try:
            wanted = expressions.evaluate_bool(condition, _scope(state, step))
        except expressions.ExpressionError as exc:
            return _failed_early(step, "CONDITION_FAILED", f"the condition {condition!r}: {exc}")
        if not wanted:
            return ev.StepSkipped(
                step.step_id, f"its condition {condition} is false", by_condition=True
            )
    # Inputs first: nobody is asked about a step that cannot run.
    queued = _queue(state, step)
    gate = state.compiled.gates.steps.get(step.step_id)
    if gate is None or isinstance(queued, ev.StepFinished) or _asked(state, step.step_id, _PASSED):
        return queued
    return request(state, step.step_id, gate, now)


_PASSED = (ApprovalState.APPROVED,)


def after_gate(state: Execution, step: CompiledStep, now: datetime) -> tuple[ev.Event, ...]:
    """Returns what becomes of a step that waited for its own approval; none while it waits.

    After an edit it may have to be asked for anew, or for nobody any more.
    """
    gate = state.compiled.gates.steps.get(step.step_id)
    if gate is None or _asked(state, step.step_id, _PASSED):
        return (_queue(state, step),)
    if _asked(state, step.step_id, WAITS_FOR_PEOPLE):
        return ()
    return (request(state, step.step_id, gate, now),)


def _asked(state: Execution, step_id: str, states: Container[ApprovalState]) -> bool:
    return any(
        item.step_id == step_id and item.state in states for item in state.approvals.values()
    )


def _queue(state: Execution, step: CompiledStep) -> ev.StepQueued | ev.StepFinished:
    body = step.body
    try:
        late = {
            name: expressions.interpolate(body["inputs"][name], _scope(state, step))
            for name in body["late"]
        }
    except expressions.ExpressionError as exc:
        return _failed_early(step, "INPUT_UNRESOLVED", f"an input could not be resolved: {exc}")
    return ev.StepQueued(step.step_id, late)


def _scope(state: Execution, step: CompiledStep) -> dict[str, object]:
    return {**state.scope(), "target": step.body["target"] or {}}


def conflict(step: ReadyStep, lock: str) -> ev.StepFinished:
    """Returns the end of a step that would rather fail than wait for a lock."""
    message = f"{lock} is held by another step, and on_conflict is fail"
    error = {"code": "CONFLICT", "message": message, "error_class": "non_retryable"}
    return ev.StepFinished(step.step_id, "failed", error)


def _failed_early(step: CompiledStep, code: str, message: str) -> ev.StepFinished:
    error = {"code": code, "message": message, "error_class": "non_retryable"}
    return ev.StepFinished(step.step_id, "failed", error)
