"""Attempts that a restored store had forgotten and an agent's journal remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain import events as ev
from opsconductor.orchestrator.domain.place import ready_steps
from opsconductor.rpc import ids

if TYPE_CHECKING:
    from datetime import datetime

    from opsconductor.orchestrator.domain.execution import Execution

_RUNNING = "running"
_NUMBERS_AHEAD = 64
"""So many attempts of one step may have been forgotten; agents count them from 1."""


def number_of(state: Execution, step_id: str, kind: str, attempt_id: str) -> int:
    """Returns the number from which an attempt's id is derived; 0 when it is not of this step."""
    known = max((item.number for item in state.attempts_of(step_id, kind)), default=0)
    for number in range(1, known + _NUMBERS_AHEAD + 1):
        if ids.attempt_id(state.execution_id, step_id, kind, number) == attempt_id:
            return number
    return 0


def take_recovered(state: Execution, now: datetime) -> tuple[ev.Event, ...]:
    """Returns what an agent has done of a step whose turn has come, instead of doing it again."""
    if not state.recovered:
        return ()
    for item in ready_steps(state, now):
        if found := _forgotten(state, item.step_id, item.kind):
            return _events(state, found)
    return ()


def _forgotten(state: Execution, step_id: str, kind: str) -> ev.AttemptRecovered | None:
    """Returns the first attempt of a step that was recovered and has not counted yet."""
    return min(
        (
            item
            for item in state.recovered.values()
            if (item.step_id, item.kind) == (step_id, kind)
            and item.attempt_id not in state.attempts
        ),
        key=lambda item: item.number,
        default=None,
    )


def _events(state: Execution, found: ev.AttemptRecovered) -> tuple[ev.Event, ...]:
    report = found.report
    granted = ev.AttemptGranted(
        attempt_id=found.attempt_id,
        step_id=found.step_id,
        kind=found.kind,
        number=found.number,
        agent_id=found.agent_id,
        session_epoch=found.session_epoch,
        routing_reason="found in its agent's journal after the store was restored",
        start_order=1 + max((step.start_order for step in state.steps.values()), default=0),
    )
    events: list[ev.Event] = [granted]
    if found.started:
        events.append(
            ev.AttemptStarted(
                found.attempt_id,
                report.get("started_at", ""),
                report.get("captured"),
                report.get("command", ""),
            )
        )
    if report["state"] != _RUNNING:
        events.append(ev.AttemptFinished(**report))
    return tuple(events)
