"""Events: frozen facts of one execution, and their JSON form in the log.

Every change of an execution is one of these, appended once under (execution_id, seq). Fields are
JSON values only; times are RFC 3339 text where an event carries one besides its own.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Json = Any


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class Recorded:
    """An event with its place in the log."""

    seq: int
    at: datetime
    event: Event


# Submission and approval


@dataclass(frozen=True)
class Submitted(Event):
    """A plan was accepted for execution."""

    execution_id: str
    tenant: str
    external_id: str
    plan_document: Json
    compiled: Json
    requester: str
    submitted_by: str
    trace_id: str
    span_id: str
    parent_span_id: str = ""
    request_id: str = ""
    request_hash: str = ""


@dataclass(frozen=True)
class AutoApproved(Event):
    """Policy let the plan run without asking anyone."""

    rule: str
    policy: str
    policy_version: str


@dataclass(frozen=True)
class ApprovalRequested(Event):
    """A person is asked; the whole plan when ``step_id`` is empty."""

    approval_id: str
    step_id: str
    level: int
    reasons: list[str]
    requirement: Json
    requirement_text: str
    plan_digest: str
    step_ids: list[str]
    revision: int
    expires_at: str = ""


@dataclass(frozen=True)
class DecisionRecorded(Event):
    """A person decided."""

    approval_id: str
    kind: str
    person: str
    reason: str = ""
    statement: str = ""
    signature: str = ""


@dataclass(frozen=True)
class ApprovalClosed(Event):
    """An approval request reached a final state."""

    approval_id: str
    state: str
    reason: str = ""


@dataclass(frozen=True)
class PlanRevised(Event):
    """An edit replaced the plan; what it touched has to be approved anew."""

    approval_id: str
    person: str
    plan_document: Json
    compiled: Json
    touched: list[str]


# Steps and attempts


@dataclass(frozen=True)
class StepQueued(Event):
    """A step is ready for an agent; its late-bound inputs are resolved."""

    step_id: str
    late_inputs: Json = field(default_factory=dict)


@dataclass(frozen=True)
class StepSkipped(Event):
    """A step will not run."""

    step_id: str
    reason: str
    by_condition: bool = False


@dataclass(frozen=True)
class AttemptGranted(Event):
    """An attempt was given to an agent; it may start from here on."""

    attempt_id: str
    step_id: str
    kind: str
    number: int
    agent_id: str
    session_epoch: int
    routing_reason: str = ""
    start_order: int = 0
    clock: str = ""
    """Mark of the clock by which it was granted."""


@dataclass(frozen=True)
class AttemptStarted(Event):
    """The agent recorded that effects may begin."""

    attempt_id: str
    started_at: str = ""
    captured: Json = None
    command: str = ""


@dataclass(frozen=True)
class AttemptFinished(Event):
    """An attempt ended, or provably never started."""

    attempt_id: str
    state: str
    effects: str
    exit_code: int | None = None
    error: Json = None
    output: Json = None
    captured: Json = None
    command: str = ""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_sha256: str = ""
    stderr_sha256: str = ""
    survivors: list[str] = field(default_factory=list)
    started_at: str = ""
    ended_at: str = ""
    gaps: list[Json] = field(default_factory=list)
    """Where output is missing that was produced: stream, offset in what is kept, bytes."""


@dataclass(frozen=True)
class AttemptRecovered(Event):
    """An agent's journal holds an attempt that the restored store had forgotten.

    Nothing starts it again: it counts when the step's turn comes. A later one replaces it.
    """

    attempt_id: str
    step_id: str
    kind: str
    number: int
    agent_id: str
    session_epoch: int
    started: bool
    report: Json
    """Fields of ``AttemptFinished``; its state is ``running`` while the agent is still at it."""


@dataclass(frozen=True)
class LateEvidence(Event):
    """An agent said what became of an attempt after it had been given up as unknown."""

    attempt_id: str
    state: str
    effects: str
    exit_code: int | None = None
    error: Json = None


@dataclass(frozen=True)
class RetryScheduled(Event):
    """A step is queued again after a delay."""

    step_id: str
    not_before: str
    reason: str
    clock: str = ""
    """Mark of the clock by which it waits."""


@dataclass(frozen=True)
class StepFinished(Event):
    """A step reached its end going forward."""

    step_id: str
    state: str
    error: Json = None
    output: Json = None


@dataclass(frozen=True)
class UnknownResolved(Event):
    """A person decided what an unknown outcome counts as."""

    step_id: str
    attempt_id: str
    resolution: str
    person: str
    reason: str
    statement: str = ""
    signature: str = ""


# Undo


@dataclass(frozen=True)
class RollbackStarted(Event):
    """Undo begins, in this order."""

    reason: str
    person: str
    order: list[str]


@dataclass(frozen=True)
class UndoQueued(Event):
    """The undo of a step is ready for an agent."""

    step_id: str
    not_before: str = ""
    clock: str = ""
    """Mark of the clock by which it waits."""


@dataclass(frozen=True)
class UndoSkipped(Event):
    """A step has nothing to undo."""

    step_id: str
    reason: str


@dataclass(frozen=True)
class UndoFinished(Event):
    """The undo of a step ended: ``rolled_back`` or ``rollback_failed``."""

    step_id: str
    state: str
    error: Json = None


# The execution as a whole


@dataclass(frozen=True)
class PauseRequested(Event):
    """Nothing new starts from here on."""

    person: str
    reason: str = ""


@dataclass(frozen=True)
class ResumeRequested(Event):
    """A paused execution, or one that asked what to do, goes on."""

    person: str


@dataclass(frozen=True)
class CancelRequested(Event):
    """Nothing new starts and what runs is ended."""

    person: str
    reason: str = ""


@dataclass(frozen=True)
class PlanTimedOut(Event):
    """The plan's own time ran out: nothing new starts and what runs is ended."""

    limit_ms: int


@dataclass(frozen=True)
class AttentionRequired(Event):
    """A person must decide before the execution can go on."""

    reason: str
    step_id: str = ""


@dataclass(frozen=True)
class ExecutionFinished(Event):
    """The execution reached a final state."""

    state: str
    reason: str = ""


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


TYPES: Mapping[str, type[Event]] = {_snake(cls.__name__): cls for cls in Event.__subclasses__()}
"""Event classes by their name in the log."""

_NAMES = {cls: name for name, cls in TYPES.items()}
_FIELDS = {cls: tuple(item.name for item in dataclasses.fields(cls)) for cls in _NAMES}


def name_of(event: Event) -> str:
    """Returns the event's name in the log, such as ``attempt_granted``."""
    return _NAMES[type(event)]


def to_json(event: Event) -> dict[str, Json]:
    """Returns the event's fields as JSON values."""
    return {name: getattr(event, name) for name in _FIELDS[type(event)]}


def from_json(name: str, data: Mapping[str, Json]) -> Event:
    """Rebuilds an event; fields of newer versions are left out, KeyError for unknown names."""
    cls = TYPES[name]
    return cls(**{key: data[key] for key in _FIELDS[cls] if key in data})
