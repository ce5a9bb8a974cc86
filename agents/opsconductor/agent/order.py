"""An assignment as it came from the orchestrator: bytes that nobody has believed yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Signed(NamedTuple):
    """A statement and the signature that is said to be over it."""

    statement: bytes
    signature: str


@dataclass(frozen=True, slots=True)
class Order:
    """One try of one step, with everything needed to verify it."""

    attempt_id: str
    execution_id: str
    step_id: str
    kind: str
    """"forward" or "undo"."""
    number: int
    body: bytes
    manifest: bytes
    approvals: tuple[Signed, ...] = ()
    late_inputs: bytes = b""
    captured: bytes = b""
    undoes_attempt_id: str = ""
    beat: int = 0
    start_ttl: float = 0.0
    """Seconds."""
    session_epoch: int = 0
    traceparent: str = ""

    @property
    def group(self) -> str:
        """What attempts of the same step, kind and execution have in common."""
        return f"{self.execution_id}/{self.step_id}/{self.kind}"
