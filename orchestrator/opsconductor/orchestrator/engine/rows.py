"""Projections: the rows of the store that are derived from an execution's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions.states import AttemptState
from opsconductor.orchestrator.store.rows import ApprovalRow, AttemptRow, ExecutionRow
from opsconductor.rpc import canonical

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.executions.execution import Approval, Attempt, Execution


def execution_row(state: Execution, head: str) -> ExecutionRow:
    """Returns the row that lists and finds an execution."""
    compiled = state.compiled
    summary = {
        "risk": compiled.risk.to_json(),
        "level": compiled.level.level,
        "requester": state.requester,
        "reason": state.reason,
        "trace_id": state.trace_id,
        "run": compiled.run,
        "steps": len(compiled.steps),
        "progress": progress(state),
    }
    words = [state.execution_id, compiled.plan_id, compiled.name, state.external_id]
    for step in compiled.steps:
        words += [step.step_id, step.body["tool"], (step.body["target"] or {}).get("name", "")]
    return ExecutionRow(
        execution_id=state.execution_id,
        tenant=state.tenant,
        external_id=state.external_id,
        request_id=state.request_id,
        request_hash=state.request_hash,
        plan_id=compiled.plan_id,
        name=compiled.name,
        state=str(state.state),
        create_time=state.created_at,
        start_time=state.started_at,
        end_time=state.ended_at,
        last_seq=state.last_seq,
        head_hash=head,
        open=state.open,
        summary=canonical.dumps(summary),
        search_text=" ".join(dict.fromkeys(word for word in words if word)),
    )


def approval_row(state: Execution, approval: Approval) -> ApprovalRow:
    """Returns the row that lists an approval request."""
    return ApprovalRow(
        approval_id=approval.approval_id,
        execution_id=state.execution_id,
        tenant=state.tenant,
        step_id=approval.step_id,
        state=str(approval.state),
        level=approval.level,
        create_time=approval.created_at,
        expire_time=approval.expires_at,
        data=b"{}",
    )


def attempt_row(state: Execution, attempt: Attempt) -> AttemptRow:
    """Returns the row that finds an attempt's execution and agent."""
    return AttemptRow(
        attempt_id=attempt.attempt_id,
        execution_id=state.execution_id,
        step_id=attempt.step_id,
        kind=attempt.kind,
        number=attempt.number,
        agent_id=attempt.agent_id,
        session_epoch=attempt.session_epoch,
        state=str(attempt.state),
        start_order=state.steps[attempt.step_id].start_order,
        data=b"{}",
    )


def progress(state: Execution) -> int:
    """Returns the share of a plan's steps that have ended, 0 to 100."""
    steps = [state.steps[step.step_id] for step in state.compiled.steps]
    if not state.open:
        return 100
    return 100 * sum(1 for step in steps if step.ended) // len(steps)


def is_open(state: str) -> bool:
    """Tells whether an attempt in this state may still be at work."""
    return state in (AttemptState.GRANTED, AttemptState.RUNNING)
