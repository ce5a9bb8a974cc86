"""What the checker knows: violations, and what the database, agents and networks have said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.executions.execution import Execution


CHECKED = (
    "I1 no lost step",
    "I2 at most once",
    "I3 no overlap",
    "I4 no start without grant",
    "I5 no false success",
    "I6 no false clean",
    "I7 honest unknown",
    "I8 output exact",
    "I9 fenced",
    "I10 legal history",
    "I11 authorised",
    "I12 order",
    "I13 cancelled is quiet",
    "I14 regression seen",
    "I15 audit complete",
    "I16 no secret",
    "I18 rollback",
    "I19 tenants apart",
    "I20 liveness",
    "I21 replay-proof",
    "I22 acked is durable",
)
"""The invariants of delivery.md that are checked here."""


class Violation(AssertionError):
    """An invariant does not hold."""

    def __reduce__(self) -> tuple[type[Violation], tuple[str, str]]:
        """Lets it pass between processes."""
        return type(self), (self.invariant, self.message)

    def __init__(self, invariant: str, message: str) -> None:
        self.invariant = invariant
        self.message = message
        super().__init__(f"{invariant}: {message}")


@dataclass
class Known:
    """What the database holds now; goes back with it when it is put back."""

    executions: dict[str, Execution] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    requests: dict[tuple[str, str], str] = field(default_factory=dict)

    def __copy__(self) -> Known:
        return Known(
            dict(self.executions),
            dict(self.heads),
            dict(self.epochs),
            dict(self.requests),
        )


@dataclass(frozen=True)
class Granted:
    """One grant that was ever committed."""

    execution_id: str
    step_id: str
    kind: str
    agent: str
    life: int
    changes: bool
    idempotent: bool
    target: str
    undo: int
    """How often the execution's undo had been asked for by then."""
    at: float


@dataclass
class Spoken:
    """An agent's newest session with one orchestrator."""

    epoch: int
    sent: dict[int, float]
    confirmed: int = 0


@dataclass
class Ordered:
    """Every Assign of an attempt that reached an agent: epoch, beat, start_ttl."""

    orders: list[tuple[int, int, float]]


@dataclass
class Memory:
    """What an agent's journal says about the store it works for."""

    incarnation: str = ""
    epoch: int = 0


def told(event: ev.Event) -> str:
    match event:
        case ev.AttemptGranted():
            return f"granted {event.step_id} {event.kind} {event.number} to {event.agent_id}"
        case ev.AttemptFinished():
            code = (event.error or {}).get("code", "")
            return f"finished {event.attempt_id[-8:]} {event.state} {event.effects} {code}"
        case ev.AttemptStarted():
            return f"started {event.attempt_id[-8:]}"
        case ev.StepFinished() | ev.UndoFinished():
            return f"step {event.step_id} {event.state}"
        case ev.ExecutionFinished():
            return f"execution {event.state}"
        case ev.UnknownResolved():
            return f"resolved {event.step_id} {event.resolution}"
        case ev.RollbackStarted():
            return f"rollback {event.order}"
    step = getattr(event, "step_id", "")
    return f"{ev.name_of(event)} {step}".strip()
