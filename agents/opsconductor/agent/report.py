"""What became of an attempt, as the agent remembers and reports it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

State = Literal[
    "granted",
    "running",
    "not_started",
    "completed",
    "failed",
    "timed_out",
    "unreachable",
    "cancelled",
    "cancel_unverified",
    "unknown",
]
Effects = Literal["", "none", "possible", "done"]
ErrorClass = Literal[
    "retryable", "non_retryable", "rollback_required", "unreachable", "throttled", "unknown"
]

OPEN_STATES = frozenset({"granted", "running"})
"""States after which more is to come."""
MAX_MESSAGE_CHARACTERS = 8 * 1024
MAX_OUTPUT_BYTES = 256 * 1024
"""Largest structured output that travels in a report."""
MAX_CAPTURED_BYTES = 64 * 1024
"""Largest captured state that travels in a report."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not complete, told so that a person knows what to do next."""

    code: str
    message: str
    error_class: ErrorClass = "non_retryable"

    def __post_init__(self) -> None:
        """Cuts the message: it may quote what a stranger sent."""
        if len(self.message) > MAX_MESSAGE_CHARACTERS:
            object.__setattr__(self, "message", self.message[: MAX_MESSAGE_CHARACTERS - 1] + "…")


@dataclass(frozen=True, slots=True)
class Report:
    """Where an attempt stands; repeated until acknowledged when final."""

    attempt_id: str
    state: State
    effects: Effects = ""
    error: Failure | None = None
    exit_code: int | None = None
    output: str = ""
    """Structured output, JSON text."""
    captured: str = ""
    """What was captured before the start, JSON text."""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_sha256: str = ""
    stderr_sha256: str = ""
    stdout_left_out: int = 0
    """Bytes that were produced and not kept."""
    stderr_left_out: int = 0
    stdout_gap_offset: int = 0
    """Where those bytes are missing in what is kept: there the line about them begins."""
    stderr_gap_offset: int = 0
    survivors: tuple[str, ...] = ()
    start_time: float = 0.0
    """By this agent's clock, seconds since 1970; 0 when nothing started."""
    end_time: float = 0.0
    command: str = ""
    session_epoch: int = 0

    @property
    def final(self) -> bool:
        """Whether nothing more will be reported about the attempt."""
        return self.state not in OPEN_STATES

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON data without what is empty."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        if self.error is not None:
            data["error"] = [self.error.code, self.error.message, self.error.error_class]
        return {
            key: value
            for key, value in data.items()
            if (value not in ("", None, ()) and value != 0)
            or (key == "exit_code" and value is not None)
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Report:
        """Restores a report; raises KeyError or TypeError for data that is none."""
        values = dict(data)
        if "error" in values:
            values["error"] = Failure(*values["error"])
        values["survivors"] = tuple(values.get("survivors", ()))
        values.setdefault("exit_code", None)
        return cls(**values)

    def without_output(self) -> Report:
        """Returns what is kept of an acknowledged report."""
        return replace(self, output="")


def refusal(attempt_id: str, code: str, message: str, *, epoch: int = 0, now: float) -> Report:
    """Returns the report of an attempt that provably never started."""
    return Report(
        attempt_id=attempt_id,
        state="not_started",
        effects="none",
        error=Failure(code, message),
        end_time=now,
        session_epoch=epoch,
    )
