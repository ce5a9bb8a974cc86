"""What the engine and agents' sessions say to each other, without wire types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True)
class SignedApproval:
    """A statement a person signed."""

    statement: str
    signature: str


@dataclass(frozen=True)
class Assignment:
    """Everything an agent needs to verify and run one attempt."""

    attempt_id: str
    execution_id: str
    step_id: str
    kind: str
    number: int
    body: bytes
    manifest: bytes
    approvals: tuple[SignedApproval, ...]
    late_inputs: bytes
    captured: bytes
    undoes_attempt_id: str
    traceparent: str


@dataclass(frozen=True)
class Report:
    """What an agent says became of an attempt; states are the words of the attempt table."""

    attempt_id: str
    state: str
    effects: str = "none"
    error: Mapping[str, str] | None = None
    exit_code: int | None = None
    output: Any = None
    captured: Any = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_sha256: str = ""
    stderr_sha256: str = ""
    gaps: tuple[Mapping[str, Any], ...] = ()
    """Where output is missing for want of room: stream (``stdout``), offset, bytes."""
    survivors: tuple[str, ...] = ()
    started_at: str = ""
    ended_at: str = ""
    command: str = ""
    session_epoch: int = 0
    """Of the session for which it was granted."""


@dataclass(frozen=True)
class Remembered:
    """An attempt as an agent's journal has it, handed over after a restore of the store."""

    report: Report
    execution_id: str
    step_id: str
    kind: str
    started: bool


@dataclass(frozen=True)
class Introduction:
    """What an agent says of itself when it connects."""

    version: str
    journal_id: str
    boot_id: str
    services: tuple[str, ...]
    methods: tuple[str, ...]
    labels: Mapping[str, str]
    capacity: int
    last_session_epoch: int
    incarnation: str
    attempts: tuple[Report, ...] = ()
    tool_digests: Mapping[str, str] = field(default_factory=dict)
    instance_id: str = ""
    """Random at each start of the agent's process."""
    clock_time: datetime | None = None
    """What its clock says."""


class Session(Protocol):
    """An agent's open control stream, as the engine uses it; every call returns at once."""

    epoch: int

    def assign(self, assignment: Assignment) -> None:
        """Queues work for the agent."""

    def cancel(self, attempt_id: str, reason: str) -> None:
        """Queues the order to take a grant back or to end what runs."""

    def acknowledge(self, attempt_id: str) -> None:
        """Queues the word that a final report is on disk."""

    def close(self, reason: str) -> None:
        """Ends the stream."""
