"""The trace of an execution, told from its state: ids are derived, times are the events' own.

Nothing is kept open while an approval waits, so a trace is whole even when the orchestrator was
killed meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions.execution import FORWARD, UNDO
from opsconductor.rpc import ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution


@dataclass(frozen=True)
class Span:
    """One span, finished."""

    name: str
    span_id: str
    parent_id: str
    start: datetime
    end: datetime
    attributes: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


def attempt_span(attempt_id: str) -> str:
    """Returns the id of an attempt's span; an agent's own spans are its children."""
    return span_id("attempt", attempt_id)


def span_id(*parts: str) -> str:
    """Returns a span id, 16 hex digits, derived from what the span is about."""
    return ids.digest_hex(*parts)[:16]


def spans(state: Execution, since: datetime | None = None) -> list[Span]:
    """Returns the spans of a finished execution that ended after ``since``, parents first."""
    found = [_root(state), *_submission(state), *_approvals(state), *_steps(state), *_undo(state)]
    return [span for span in found if since is None or span.end > since]


def _root(state: Execution) -> Span:
    compiled = state.compiled
    ok = state.state in ("completed", "rolled_back")
    return Span(
        name=f"plan {compiled.name or compiled.plan_id}",
        span_id=state.span_id,
        parent_id=state.parent_span_id,
        start=state.created_at,
        end=state.ended_at or state.created_at,
        attributes={
            "opsconductor.execution_id": state.execution_id,
            "opsconductor.plan_id": compiled.plan_id,
            "opsconductor.tenant": state.tenant,
            "opsconductor.requester": state.requester,
            "opsconductor.state": str(state.state),
        },
        error="" if ok else state.reason or str(state.state),
    )


def _submission(state: Execution) -> Iterator[Span]:
    compiled = state.compiled
    submit = span_id("submit", state.execution_id)
    yield Span("submit", submit, state.span_id, state.created_at, state.created_at)
    yield Span(
        "risk",
        span_id("risk", state.execution_id),
        submit,
        state.created_at,
        state.created_at,
        {
            "opsconductor.risk.level": compiled.risk.level,
            "opsconductor.risk.reasons": list(compiled.risk.reasons),
            "opsconductor.approval.level": compiled.level.level,
        },
    )


def _approvals(state: Execution) -> Iterator[Span]:
    for approval in state.approvals.values():
        yield Span(
            f"approval {approval.step_id}".strip(),
            span_id("approval", approval.approval_id),
            state.span_id,
            approval.created_at,
            approval.closed_at or state.ended_at or approval.created_at,
            {
                "opsconductor.approval_id": approval.approval_id,
                "opsconductor.approval.state": str(approval.state),
                "opsconductor.approval.people": [item.person for item in approval.decisions],
            },
        )


def _steps(state: Execution) -> Iterator[Span]:
    for step in (*state.compiled.steps, *state.compiled.rollback):
        record = state.steps[step.step_id]
        if not record.queued_at and not record.started_at:
            continue
        step_span = span_id("step", state.execution_id, step.step_id)
        start = min(time for time in (record.queued_at, record.started_at) if time)
        forward = state.attempts_of(step.step_id, FORWARD)
        if forward:
            start = min(start, forward[0].granted_at)
        ok = record.state in ("completed", "rolled_back", "skipped")
        yield Span(
            f"step {step.step_id}",
            step_span,
            state.span_id,
            start,
            record.ended_at or state.ended_at or start,
            {
                "opsconductor.step_id": step.step_id,
                "opsconductor.tool": step.tool,
                "opsconductor.target": step.target_name,
                "opsconductor.state": str(record.state),
            },
            "" if ok else (record.error or {}).get("message", str(record.state)),
        )
        for attempt in forward:
            yield _attempt(state, attempt, step_span)


def _attempt(state: Execution, attempt: Attempt, parent: str) -> Span:
    ok = attempt.state == "completed"
    return Span(
        f"attempt {attempt.number}",
        attempt_span(attempt.attempt_id),
        parent,
        attempt.granted_at,
        max(attempt.ended_at or attempt.granted_at, attempt.granted_at),
        {
            "opsconductor.attempt_id": attempt.attempt_id,
            "opsconductor.agent_id": attempt.agent_id,
            "opsconductor.state": str(attempt.state),
            **({} if attempt.exit_code is None else {"process.exit.code": attempt.exit_code}),
        },
        "" if ok else (attempt.error or {}).get("message", str(attempt.state)),
    )


def _undo(state: Execution) -> Iterator[Span]:
    if state.undo is None:
        return
    rollback = span_id("rollback", state.execution_id, str(state.undo_count))
    yield Span(
        "rollback",
        rollback,
        state.span_id,
        state.undo.started_at,
        state.ended_at or state.undo.started_at,
        {"opsconductor.reason": state.undo.reason, "opsconductor.person": state.undo.person},
        "" if state.state == "rolled_back" else state.reason,
    )
    for step_id in state.undo.order:
        attempts = state.attempts_of(step_id, UNDO)
        if not attempts:
            continue
        undo_span = span_id("undo", state.execution_id, step_id, str(state.undo_count))
        end = max(item.ended_at or item.granted_at for item in attempts)
        attributes = {"opsconductor.step_id": step_id}
        yield Span(f"undo {step_id}", undo_span, rollback, attempts[0].granted_at, end, attributes)
        for attempt in attempts:
            yield _attempt(state, attempt, undo_span)
