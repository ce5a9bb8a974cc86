"""The state of one execution, folded from its events; immutable, so a fold can be thrown away."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions.changing import replace
from opsconductor.orchestrator.domain.executions.clock import Clock
from opsconductor.orchestrator.domain.executions.states import (
    EXECUTION_OPEN,
    STEP_ENDED,
    ApprovalState,
    AttemptState,
    ExecutionState,
    StepState,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.events import AttemptRecovered
    from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan, CompiledStep

_NO_CLOCK = Clock()

FORWARD = "forward"
UNDO = "undo"

WAITS_FOR_PEOPLE = (ApprovalState.PENDING, ApprovalState.CHANGES_REQUESTED)
"""States of an approval request in which people have to do something."""

Json = Any


@dataclass(frozen=True)
class Attempt:
    """One try of a step."""

    attempt_id: str
    step_id: str
    kind: str
    number: int
    agent_id: str
    session_epoch: int
    routing_reason: str
    granted_at: datetime
    state: AttemptState = AttemptState.GRANTED
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    error: Json = None
    output: Json = None
    captured: Json = None
    command: str = ""
    effects: str = ""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_sha256: str = ""
    stderr_sha256: str = ""
    gaps: tuple[Json, ...] = ()
    """Where output is missing that was produced: stream, offset in what is kept, bytes."""
    survivors: tuple[str, ...] = ()
    judged: bool = False
    """Whether the step already took this attempt's end into account."""
    late: str = ""
    """What its agent said of it after it had been given up as unknown; decides nothing."""

    @property
    def live(self) -> bool:
        """Whether the agent may still be at it."""
        return self.state in (AttemptState.GRANTED, AttemptState.RUNNING)


@dataclass(frozen=True)
class StepRecord:
    """Where one step stands."""

    step_id: str
    state: StepState = StepState.PENDING
    effects: str = "none"
    attempt_ids: tuple[str, ...] = ()
    started_at: datetime | None = None
    ended_at: datetime | None = None
    queued_at: datetime | None = None
    not_before: datetime | None = None
    """When its next try is due."""
    delayed_at: datetime | None = None
    """When it was told to wait until then."""
    delay_clock: str = ""
    """Mark of the clock by which it was told so."""
    late_inputs: Json = None
    output: Json = None
    error: Json = None
    skipped_by_condition: bool = False
    start_order: int = 0
    undo_queued: bool = False
    undo_tried: int = 0
    """Number of the execution's undo in which this step's undo last ended."""
    resolved_by: str = ""
    skip_reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether it will not run forward any more."""
        return self.state in STEP_ENDED

    @property
    def succeeded(self) -> bool:
        """Whether steps that need it may run."""
        return self.state is StepState.COMPLETED or self.skipped_by_condition


@dataclass(frozen=True)
class Decision:
    """What one person said about an approval request."""

    kind: str
    person: str
    at: datetime
    reason: str = ""
    statement: str = ""
    signature: str = ""


@dataclass(frozen=True)
class Approval:
    """An approval request and what was said about it."""

    approval_id: str
    step_id: str
    level: int
    reasons: tuple[str, ...]
    requirement: Json
    requirement_text: str
    plan_digest: str
    step_ids: tuple[str, ...]
    revision: int
    created_at: datetime
    expires_at: datetime | None
    state: ApprovalState = ApprovalState.PENDING
    decisions: tuple[Decision, ...] = ()
    closed_at: datetime | None = None

    @property
    def open(self) -> bool:
        """Whether decisions still count."""
        return self.state is ApprovalState.PENDING


@dataclass(frozen=True)
class Undo:
    """The undo of an execution that is under way or done."""

    order: tuple[str, ...]
    person: str
    reason: str
    started_at: datetime


@dataclass(frozen=True)
class Execution:
    """One run of a plan."""

    execution_id: str
    tenant: str
    external_id: str
    plan_document: Json
    revisions: tuple[CompiledPlan, ...]
    requester: str
    submitted_by: str
    trace_id: str
    span_id: str
    parent_span_id: str
    created_at: datetime
    request_id: str = ""
    request_hash: str = ""
    state: ExecutionState = ExecutionState.PENDING
    reason: str = ""
    steps: Mapping[str, StepRecord] = field(default_factory=dict)
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    approvals: Mapping[str, Approval] = field(default_factory=dict)
    started_at: datetime | None = None
    started_clock: str = ""
    """Mark of the clock by which it started."""
    ended_at: datetime | None = None
    approved_at: datetime | None = None
    auto_approved_by: str = ""
    stopping: str = ""
    """Why nothing new starts: "cancel", "timeout", "rejected", "expired"; empty if it goes on."""
    asked: bool = False
    """Whether attention was asked for because of on_failure: ask, and not answered yet."""
    told_to_continue: bool = False
    undo: Undo | None = None
    undo_count: int = 0
    resolutions: tuple[tuple[str, str, str], ...] = ()
    """(attempt_id, statement, signature) of retries a person authorised."""
    recovered: Mapping[str, AttemptRecovered] = field(default_factory=dict)
    """Attempts from agents' journals that a restored store had forgotten, by id."""
    last_seq: int = 0
    clock: Clock = field(default=_NO_CLOCK, compare=False)
    """Of who works with it just now; no event tells it."""

    @property
    def compiled(self) -> CompiledPlan:
        """The plan in force."""
        return self.revisions[-1]

    @property
    def open(self) -> bool:
        """Whether something is still to come."""
        return self.state in EXECUTION_OPEN

    def compiled_step(self, step_id: str) -> CompiledStep:
        """Returns the compiled form of a step or of a plan-level rollback call."""
        return self.compiled.step(step_id)

    def is_plan_undo(self, step_id: str) -> bool:
        """Tells whether a step is one of the plan-level rollback calls."""
        return self.compiled.is_rollback(step_id)

    def live_attempts(self) -> Iterator[Attempt]:
        """Yields the attempts an agent may still be at."""
        return (attempt for attempt in self.attempts.values() if attempt.live)

    def attempts_of(self, step_id: str, kind: str) -> list[Attempt]:
        """Returns the attempts of one kind of a step, oldest first."""
        return [
            self.attempts[attempt_id]
            for attempt_id in self.steps[step_id].attempt_ids
            if self.attempts[attempt_id].kind == kind
        ]

    def pending_approvals(self) -> list[Approval]:
        """Returns the approval requests that wait for decisions."""
        return [approval for approval in self.approvals.values() if approval.open]

    @property
    def plan_gate_open(self) -> bool:
        """Whether people have yet to agree to the plan as a whole: nothing new starts."""
        return any(
            not approval.step_id and approval.state in WAITS_FOR_PEOPLE
            for approval in self.approvals.values()
        )

    def scope(self) -> dict[str, Json]:
        """Returns what conditions and late-bound inputs can refer to."""
        return {
            "inputs": self.compiled.inputs,
            "steps": {
                step_id: {"output": record.output, "status": str(record.state)}
                for step_id, record in self.steps.items()
                if record.ended
            },
        }

    def with_step(self, step_id: str, **changes: Any) -> Execution:
        """Returns a copy in which one step differs."""
        steps = dict(self.steps)
        steps[step_id] = replace(steps[step_id], **changes)
        return replace(self, steps=steps)

    def with_attempt(self, attempt_id: str, **changes: Any) -> Execution:
        """Returns a copy in which one attempt differs."""
        attempts = dict(self.attempts)
        attempts[attempt_id] = replace(attempts[attempt_id], **changes)
        return replace(self, attempts=attempts)

    def with_approval(self, approval_id: str, **changes: Any) -> Execution:
        """Returns a copy in which one approval request differs."""
        approvals = dict(self.approvals)
        approvals[approval_id] = replace(approvals[approval_id], **changes)
        return replace(self, approvals=approvals)
