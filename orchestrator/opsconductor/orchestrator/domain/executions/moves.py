"""Moves along the edges of the state tables; every fold rule goes through them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from opsconductor.orchestrator.domain.executions.changing import replace
from opsconductor.orchestrator.domain.executions.execution import WAITS_FOR_PEOPLE, StepRecord
from opsconductor.orchestrator.domain.executions.states import (
    EXECUTION_TRANSITIONS,
    STEP_TRANSITIONS,
    ExecutionState,
    StepState,
    transition,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan

Rule: TypeAlias = "Callable[[Any, Execution, datetime], Execution]"
"""What one kind of event makes of an execution."""


def move(state: Execution, to: ExecutionState, **changes: object) -> Execution:
    """Returns the execution in another state; the same state is no edge and changes nothing."""
    if state.state is not to:
        transition(EXECUTION_TRANSITIONS, state.state, to)
    return replace(state, state=to, **changes)


def move_step(state: Execution, step_id: str, to: StepState, **changes: object) -> Execution:
    """Returns the execution with one step in another state."""
    transition(STEP_TRANSITIONS, state.steps[step_id].state, to)
    return state.with_step(step_id, state=to, **changes)


def parse_time(text: str) -> datetime | None:
    """Reads RFC 3339 text; None for empty text."""
    return datetime.fromisoformat(text) if text else None


def show_gate(state: Execution) -> Execution:
    """Shows a running execution as waiting for approval while nothing else moves."""
    waiting = any(
        approval.step_id and approval.state in WAITS_FOR_PEOPLE
        for approval in state.approvals.values()
    )
    busy = any(step.state in (StepState.QUEUED, StepState.RUNNING) for step in state.steps.values())
    if waiting and not busy and state.state in (ExecutionState.RUNNING, ExecutionState.QUEUED):
        return move(state, ExecutionState.APPROVAL_REQUIRED)
    if busy and state.state is ExecutionState.APPROVAL_REQUIRED and not state.plan_gate_open:
        return move(state, moving(state))
    return state


def moving(state: Execution) -> ExecutionState:
    """Returns the state of an execution that goes on: running once anything was granted."""
    return ExecutionState.RUNNING if state.started_at else ExecutionState.QUEUED


def records(compiled: CompiledPlan) -> dict[str, StepRecord]:
    """Returns a fresh record for every step and rollback call of a plan."""
    return {
        step.step_id: StepRecord(step.step_id) for step in (*compiled.steps, *compiled.rollback)
    }
