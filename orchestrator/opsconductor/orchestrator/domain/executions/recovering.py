"""Attempts that a restored store had forgotten and an agent's journal remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.execution import FORWARD, UNDO
from opsconductor.orchestrator.domain.executions.place import ready_steps
from opsconductor.orchestrator.domain.executions.states import StepState
from opsconductor.rpc import ids

if TYPE_CHECKING:
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Execution

_RUNNING = "running"
_NOT_STARTED = (StepState.PENDING, StepState.QUEUED, StepState.APPROVAL_REQUIRED)
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


def before_the_end(state: Execution) -> tuple[ev.Event, ...]:
    """Returns what an agent has begun of a step that would be given up as not started.

    The last attempt of a step is the one that may still run; where it does, it is live from here
    on, and is waited for or taken back as any other.
    """
    for step in state.compiled.steps if state.recovered else ():
        stands = state.steps[step.step_id].state
        if stands not in _NOT_STARTED:
            continue
        begun = [item for item in _uncounted(state, step.step_id, FORWARD) if item.started]
        if begun:
            queued = () if stands is StepState.QUEUED else (ev.StepQueued(step.step_id),)
            return (*queued, *_events(state, begun[-1]))
    return ()


def undos_begun(state: Execution) -> list[str]:
    """Returns the steps whose undo an agent has begun without this record's knowing how it went."""
    return [
        step_id
        for step_id in state.steps
        if any(item.started for item in _uncounted(state, step_id, UNDO))
    ]


def _forgotten(state: Execution, step_id: str, kind: str) -> ev.AttemptRecovered | None:
    """Returns the first attempt of a step that was recovered and has not counted yet."""
    return next(iter(_uncounted(state, step_id, kind)), None)


def _uncounted(state: Execution, step_id: str, kind: str) -> list[ev.AttemptRecovered]:
    found = (
        item
        for item in state.recovered.values()
        if (item.step_id, item.kind) == (step_id, kind) and item.attempt_id not in state.attempts
    )
    return sorted(found, key=lambda item: item.number)


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
        clock=state.clock.mark,
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
