"""Assignments: an attempt with the proofs that its agent asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions.execution import UNDO, Attempt, Execution
from opsconductor.orchestrator.domain.executions.place import last_effective
from opsconductor.orchestrator.domain.executions.states import ApprovalState
from opsconductor.orchestrator.domain.executions.trace import attempt_span
from opsconductor.orchestrator.engine.messages import Assignment, SignedApproval
from opsconductor.rpc import canonical

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan


def assignment(state: Execution, attempt: Attempt) -> Assignment:
    """Returns what is sent to the agent for an attempt.

    The manifest is that of the revision under which the step was approved: an edit elsewhere leaves
    an approval standing, and its signature names the older manifest.
    """
    step = state.compiled_step(attempt.step_id)
    revision, approvals = _proofs(state, attempt)
    captured = b""
    undoes = ""
    if attempt.kind == UNDO and (forward := last_effective(state, attempt.step_id)):
        undoes = forward.attempt_id
        captured = canonical.dumps(forward.captured) if forward.captured is not None else b""
    late = state.steps[attempt.step_id].late_inputs or {}
    return Assignment(
        attempt_id=attempt.attempt_id,
        execution_id=state.execution_id,
        step_id=attempt.step_id,
        kind=attempt.kind,
        number=attempt.number,
        body=step.body_bytes,
        manifest=revision.manifest_bytes,
        approvals=approvals,
        late_inputs=canonical.dumps(late),
        captured=captured,
        undoes_attempt_id=undoes,
        traceparent=f"00-{state.trace_id}-{attempt_span(attempt.attempt_id)}-01",
    )


def _proofs(state: Execution, attempt: Attempt) -> tuple[CompiledPlan, tuple[SignedApproval, ...]]:
    digest = state.compiled_step(attempt.step_id).digest
    resolutions = tuple(
        SignedApproval(statement, signature)
        for _, statement, signature in state.resolutions
        if statement
    )
    for request in reversed(list(state.approvals.values())):
        if request.state is not ApprovalState.APPROVED:
            continue
        revision = state.revisions[request.revision - 1]
        if attempt.step_id in request.step_ids and _holds(revision, attempt.step_id, digest):
            signed = tuple(
                SignedApproval(decision.statement, decision.signature)
                for decision in request.decisions
                if decision.kind == "approve" and decision.statement
            )
            return revision, (*signed, *resolutions)
    return state.compiled, resolutions


def _holds(revision: CompiledPlan, step_id: str, digest: str) -> bool:
    """Tells whether a revision has the step exactly as it is in force."""
    return any(
        step.step_id == step_id and step.digest == digest
        for step in (*revision.steps, *revision.rollback)
    )
