"""``apply``: what each event makes of an execution. The only way in which state changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions import fold_approvals, fold_ends, fold_steps
from opsconductor.orchestrator.domain.executions.changing import replace
from opsconductor.orchestrator.domain.executions.execution import Execution
from opsconductor.orchestrator.domain.executions.moves import records
from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.moves import Rule

_RULES: Mapping[type[ev.Event], Rule] = {
    **fold_approvals.RULES,
    **fold_steps.RULES,
    **fold_ends.RULES,
}


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
    return replace(_RULES[type(event)](event, state, at), last_seq=recorded.seq)


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
        steps=records(compiled),
    )
