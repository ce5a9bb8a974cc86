"""What approval events make of an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.changing import replace
from opsconductor.orchestrator.domain.executions.execution import Approval, Decision
from opsconductor.orchestrator.domain.executions.moves import (
    move,
    move_step,
    moving,
    parse_time,
    records,
    show_gate,
)
from opsconductor.orchestrator.domain.executions.states import (
    APPROVAL_TRANSITIONS,
    ApprovalState,
    ExecutionState,
    StepState,
    transition,
)
from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.domain.executions.moves import Rule


def _auto_approved(event: ev.AutoApproved, state: Execution, at: datetime) -> Execution:
    waiting = (ExecutionState.PENDING, ExecutionState.APPROVAL_REQUIRED)
    to = moving(state) if state.state in waiting else state.state
    return move(state, to, auto_approved_by=f"policy:{event.rule}", approved_at=at)


def _approval_requested(event: ev.ApprovalRequested, state: Execution, at: datetime) -> Execution:
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
    return show_gate(state)


def _decision_recorded(event: ev.DecisionRecorded, state: Execution, at: datetime) -> Execution:
    approval = state.approvals[event.approval_id]
    decision = Decision(
        event.kind, event.person, at, event.reason, event.statement, event.signature
    )
    return state.with_approval(event.approval_id, decisions=(*approval.decisions, decision))


def _approval_closed(event: ev.ApprovalClosed, state: Execution, at: datetime) -> Execution:
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
    return move(state, moving(state))


def _plan_revised(event: ev.PlanRevised, state: Execution, at: datetime) -> Execution:
    compiled = CompiledPlan.from_json(event.compiled)
    touched = set(event.touched)
    fresh = records(compiled)
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
        auto_approved_by="",
    )


RULES: Mapping[type[ev.Event], Rule] = {
    ev.AutoApproved: _auto_approved,
    ev.ApprovalRequested: _approval_requested,
    ev.DecisionRecorded: _decision_recorded,
    ev.ApprovalClosed: _approval_closed,
    ev.PlanRevised: _plan_revised,
}
