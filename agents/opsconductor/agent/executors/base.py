"""The interface of executors; others register theirs in the group "opsconductor.executors"."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping
    from datetime import timedelta

    from opsconductor.agent.executors.local.run_folder import RunFolder
    from opsconductor.tool_registry.rendering.rendered import Rendered

Stream = Literal["stdout", "stderr"]
Effects = Literal["none", "possible", "done"]
ErrorClass = Literal[
    "retryable", "non_retryable", "rollback_required", "unreachable", "throttled", "unknown"
]
State = Literal[
    "completed",
    "failed",
    "timed_out",
    "unreachable",
    "cancelled",
    "cancel_unverified",
    "unknown",
]

MARKER = "OPSCONDUCTOR_ATTEMPT"
"""Environment variable that names the attempt in every process a step starts."""


@dataclass(frozen=True, slots=True)
class Call:
    """One rendered call, ready to be carried out."""

    attempt_id: str
    rendered: Rendered
    target: Mapping[str, Any] | None
    """The step's TARGET; None means the agent's own host."""
    timeout: timedelta
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for the step, such as TRACEPARENT."""
    max_output_bytes: int = 16 * 1024 * 1024
    """Most bytes of one answer an executor keeps in memory; streams are limited by the sink."""
    read_only: bool = False
    folder: RunFolder | None = None
    """Where the call is supervised, so that it outlives the agent; None ends it with the agent."""

    @property
    def where(self) -> str:
        """Returns the target as people read it in messages."""
        if self.target is None:
            return "the agent's host"
        name, address = self.target.get("name", ""), self.target.get("address", "")
        return f"{name} ({address})" if name and address and name != address else name or address


class Sink(Protocol):
    """Takes the output of a call as it comes."""

    async def write(self, stream: Stream, data: bytes) -> None:
        """Stores some bytes; returns late to slow the producer down."""


@runtime_checkable
class PositionedSink(Protocol):
    """A sink that remembers over restarts how far it has come."""

    def position(self, stream: Stream) -> int:
        """Returns how many bytes of a command's own output were passed on for good."""

    def miss(self, stream: Stream, count: int) -> None:
        """Notes that behind what was written this many bytes are lost."""


@dataclass(frozen=True, slots=True)
class StepFailure:
    """Why a call did not end as it should."""

    code: str
    message: str
    error_class: ErrorClass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call.

    ``completed`` means that it ended by itself, with any exit code: the caller judges success. A
    ``completed`` outcome with an error ended, but its output is incomplete.
    """

    state: State
    exit_code: int | None = None
    effects: Effects = "none"
    error: StepFailure | None = None
    survivors: tuple[str, ...] = ()
    """Processes that outlived a stop, or why that could not be checked; one line each."""
    output: Any = None
    """Structured output of methods that have no standard output to parse."""

    @classmethod
    def ended(cls, call: Call, exit_code: int | None, output: Any = None) -> Outcome:
        """Returns the outcome of a call that ended by itself."""
        return cls("completed", exit_code, "none" if call.read_only else "done", output=output)

    @classmethod
    def refused(cls, code: str, message: str) -> Outcome:
        """Returns the outcome of a call that provably did nothing and would not the next time."""
        return cls("failed", error=StepFailure(code, message, "non_retryable"))

    @classmethod
    def throttled(cls, code: str, message: str) -> Outcome:
        """Returns the outcome of a call that was turned away for now, so nothing was done."""
        return cls("failed", error=StepFailure(code, message, "throttled"))

    @classmethod
    def unreachable(cls, code: str, message: str) -> Outcome:
        """Returns the outcome of a call that never reached its target."""
        return cls("unreachable", error=StepFailure(code, message, "unreachable"))

    @classmethod
    def lost(cls, call: Call, code: str, message: str) -> Outcome:
        """Returns the outcome of a call whose end was not seen: a change may have happened."""
        if call.read_only:
            return cls.unreachable(code, message)
        return cls("unknown", effects="possible", error=StepFailure(code, message, "unknown"))

    @classmethod
    def not_begun(cls, call: Call, why: Stop) -> Outcome:
        """Returns the outcome of a call that was stopped before anything was sent."""
        return cls(why, error=_stopped(call, why, "before it began; nothing was done"))

    @classmethod
    def stopped(
        cls, call: Call, why: Stop, *, exit_code: int | None, survivors: tuple[str, ...] = ()
    ) -> Outcome:
        """Returns the outcome of a call that was ended from outside, with the evidence."""
        how = "and its processes were ended"
        state: State = why
        if survivors:
            how = f"but this may still be running: {'; '.join(survivors)}"
            state = "cancel_unverified" if why == "cancelled" else why
        effects: Effects = "none" if call.read_only else "possible"
        return cls(state, exit_code, effects, _stopped(call, why, how), survivors)


Stop = Literal["cancelled", "timed_out"]
"""Why a call is ended from outside."""


class Refused(Exception):
    """Ends a call inside an executor before anything was sent or started."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome.error.message if outcome.error else outcome.state)


class Executor(Protocol):
    """Carries out the calls of one method."""

    method: str

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Carries out one call and returns when nothing of it runs any more, or says what may.

        Setting ``cancel`` ends it early. Whatever it raises is a defect of the executor.
        """

    async def close(self) -> None:
        """Gives back what is kept between calls."""


@runtime_checkable
class SurvivingExecutor(Protocol):
    """An executor whose calls with a folder outlive the agent."""

    def warm(self) -> None:
        """Prepares for such a call; returns at once."""

    def adopting(self) -> Executor:
        """Returns an executor that takes up calls which an earlier agent has begun."""


def _stopped(call: Call, why: Stop, how: str) -> StepFailure:
    if why == "cancelled":
        return StepFailure("CANCELLED", f"cancelled on {call.where} {how}", "non_retryable")
    seconds = call.timeout.total_seconds()
    message = f"timed out after {seconds:g} s on {call.where} {how}"
    return StepFailure("TIMEOUT", message, "retryable" if call.read_only else "non_retryable")
