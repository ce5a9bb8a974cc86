"""The errors both ends agree on: one class per reason, mapped to the wire in rpc/status.py only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake in something a person wrote, told so that it can be fixed without asking back."""

    code: str
    """Stable code such as UNKNOWN_TOOL, PLAN_CYCLE, TYPE, TIMEOUT."""
    field: str = ""
    """Path of the field, for example ``steps[1].inputs.path``."""
    found: str = ""
    """What was found."""
    expected: str = ""
    """What was expected."""
    hint: str = ""
    """What to do next, for example ``did you mean restart_service?``."""
    step: str = ""
    """Step id; empty for the document as a whole."""
    line: int = 0
    """Line in the document, from 1; 0 when unknown."""

    def __str__(self) -> str:
        """Returns the fault as one line for people."""
        where = ", ".join(
            part
            for part in (
                f"step {self.step}" if self.step else "",
                self.field,
                f"line {self.line}" if self.line else "",
            )
            if part
        )
        text = f"{self.code}" + (f" at {where}" if where else "")
        if self.found:
            text += f": found {self.found}"
        if self.expected:
            text += f"{',' if self.found else ':'} expected {self.expected}"
        return text + (f" ({self.hint})" if self.hint else "")


class OpsConductorError(Exception):
    """Base of every error that crosses the wire; the class docstring is the default message."""

    reason: ClassVar[str] = "INTERNAL"
    """Name of the ErrorReason value without its prefix."""
    code: ClassVar[str] = "INTERNAL"
    """Name of the gRPC status code."""
    retryable: ClassVar[bool] = False
    """Whether the same call can succeed when repeated unchanged."""

    def __init__(
        self,
        message: str = "",
        *,
        faults: Sequence[Fault] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.faults = tuple(faults)
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        super().__init__(self.message)


class Internal(OpsConductorError):
    """The server failed in a way it did not foresee."""

    reason = "INTERNAL"
    code = "INTERNAL"


class PlanInvalid(OpsConductorError):
    """The plan has faults."""

    reason = "PLAN_INVALID"
    code = "INVALID_ARGUMENT"


class PlanTooLarge(OpsConductorError):
    """The plan is larger than the server takes."""

    reason = "PLAN_TOO_LARGE"
    code = "INVALID_ARGUMENT"


class InvalidArgument(OpsConductorError):
    """A request field is missing or malformed."""

    reason = "INVALID_ARGUMENT"
    code = "INVALID_ARGUMENT"


class NotFound(OpsConductorError):
    """There is no such object."""

    reason = "NOT_FOUND"
    code = "NOT_FOUND"


class InvalidTransition(OpsConductorError):
    """The object's state does not allow this."""

    reason = "INVALID_TRANSITION"
    code = "FAILED_PRECONDITION"


class AlreadyDecided(OpsConductorError):
    """The approval request already has a final decision."""

    reason = "ALREADY_DECIDED"
    code = "FAILED_PRECONDITION"


class Expired(OpsConductorError):
    """The approval request expired."""

    reason = "EXPIRED"
    code = "FAILED_PRECONDITION"


class Superseded(OpsConductorError):
    """The approval request was replaced by a newer revision of the plan."""

    reason = "SUPERSEDED"
    code = "FAILED_PRECONDITION"


class SignatureInvalid(OpsConductorError):
    """The signature does not verify, or its key is not known."""

    reason = "SIGNATURE_INVALID"
    code = "INVALID_ARGUMENT"


class DigestMismatch(OpsConductorError):
    """The statement approves something else than what was asked."""

    reason = "DIGEST_MISMATCH"
    code = "FAILED_PRECONDITION"


class PermissionDenied(OpsConductorError):
    """The caller's identity may not do this."""

    reason = "PERMISSION_DENIED"
    code = "PERMISSION_DENIED"


class RequestIdReused(OpsConductorError):
    """The same request_id was used before with a different request."""

    reason = "REQUEST_ID_REUSED"
    code = "ALREADY_EXISTS"


class StoreUnavailable(OpsConductorError):
    """The store did not take the write; nothing was acknowledged."""

    reason = "STORE_UNAVAILABLE"
    code = "UNAVAILABLE"
    retryable = True


class StoreLocked(OpsConductorError):
    """Another process holds the embedded store."""

    reason = "STORE_LOCKED"
    code = "FAILED_PRECONDITION"


class QueueFull(OpsConductorError):
    """A limit on queued or running work is reached."""

    reason = "QUEUE_FULL"
    code = "RESOURCE_EXHAUSTED"
    retryable = True


class NoAgent(OpsConductorError):
    """No agent that could reach the target is known."""

    reason = "NO_AGENT"
    code = "FAILED_PRECONDITION"


class TokenInvalid(OpsConductorError):
    """The join token is unknown, used or expired."""

    reason = "TOKEN_INVALID"
    code = "PERMISSION_DENIED"


class DuplicateAgent(OpsConductorError):
    """The agent is already connected, or enrolled under another key."""

    reason = "DUPLICATE_AGENT"
    code = "ALREADY_EXISTS"


class AssetExists(OpsConductorError):
    """The inventory has an asset of this name already."""

    reason = "ASSET_EXISTS"
    code = "ALREADY_EXISTS"


class ProtocolError(OpsConductorError):
    """A frame broke the stream's protocol."""

    reason = "PROTOCOL_ERROR"
    code = "INVALID_ARGUMENT"


class HelloRequired(OpsConductorError):
    """The first frame of a control stream must be a Hello."""

    reason = "HELLO_REQUIRED"
    code = "FAILED_PRECONDITION"


class StaleEpoch(OpsConductorError):
    """The session epoch is older than the newest one issued."""

    reason = "STALE_EPOCH"
    code = "FAILED_PRECONDITION"


class NotYourAttempt(OpsConductorError):
    """The attempt belongs to another agent."""

    reason = "NOT_YOUR_ATTEMPT"
    code = "PERMISSION_DENIED"


class OutputConflict(OpsConductorError):
    """The same output offset arrived twice with different bytes."""

    reason = "OUTPUT_CONFLICT"
    code = "DATA_LOSS"


class PointOfNoReturn(OpsConductorError):
    """The execution passed a step that cannot be undone."""

    reason = "POINT_OF_NO_RETURN"
    code = "FAILED_PRECONDITION"


class UnknownTool(OpsConductorError):
    """No tool has this name or alias."""

    reason = "UNKNOWN_TOOL"
    code = "NOT_FOUND"


class DocumentInvalid(OpsConductorError):
    """The document could not be read."""

    reason = "DOCUMENT_INVALID"
    code = "INVALID_ARGUMENT"


class VersionUnsupported(OpsConductorError):
    """The protocol version of the peer is not supported."""

    reason = "VERSION_UNSUPPORTED"
    code = "FAILED_PRECONDITION"


class ClockSkew(OpsConductorError):
    """The clocks differ by more than certificates tolerate."""

    reason = "CLOCK_SKEW"
    code = "FAILED_PRECONDITION"


class StoreRegressed(OpsConductorError):
    """The store is older than what an agent has already seen."""

    reason = "STORE_REGRESSED"
    code = "FAILED_PRECONDITION"


class NoProbe(OpsConductorError):
    """The tool of the step declares no probe."""

    reason = "NO_PROBE"
    code = "FAILED_PRECONDITION"


BY_REASON: Mapping[str, type[OpsConductorError]] = {
    error.reason: error for error in OpsConductorError.__subclasses__()
}
"""Every error class by its reason."""
