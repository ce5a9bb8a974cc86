"""Exit codes: one table for executions, one for errors. Scripts depend on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.rpc.errors import OpsConductorError

COMPLETED: Final = 0
FAILED: Final = 1
USAGE: Final = 2
REJECTED: Final = 3
UNREACHABLE: Final = 4
ROLLED_BACK: Final = 5
ROLLBACK_FAILED: Final = 6
UNKNOWN: Final = 7
APPROVAL_REQUIRED: Final = 8
CANCELLED: Final = 9
TIMED_OUT: Final = 124
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

BY_STATUS: Final[Mapping[str, int]] = {
    "completed": COMPLETED,
    "failed": FAILED,
    "rejected": REJECTED,
    "expired": REJECTED,
    "unreachable": UNREACHABLE,
    "rolled_back": ROLLED_BACK,
    "rollback_failed": ROLLBACK_FAILED,
    "unknown": UNKNOWN,
    "cancel_unverified": UNKNOWN,
    "attention_required": UNKNOWN,
    "approval_required": APPROVAL_REQUIRED,
    "cancelled": CANCELLED,
    "timed_out": TIMED_OUT,
}
"""Exit code of an execution by its status word; words of running executions are absent."""

BY_REASON: Final[Mapping[str, int]] = {
    "PLAN_INVALID": USAGE,
    "PLAN_TOO_LARGE": USAGE,
    "INVALID_ARGUMENT": USAGE,
    "DOCUMENT_INVALID": USAGE,
    "UNKNOWN_TOOL": USAGE,
    "NOT_FOUND": USAGE,
    "REQUEST_ID_REUSED": USAGE,
    "EXPIRED": REJECTED,
    "SUPERSEDED": REJECTED,
    "NO_AGENT": UNREACHABLE,
    "QUEUE_FULL": UNREACHABLE,
}
"""Exit code of an error by its reason."""


def of_status(status: str) -> int:
    """Returns the exit code of an execution; one that still runs counts as 0."""
    return BY_STATUS.get(status, COMPLETED)


def of_error(error: OpsConductorError) -> int:
    """Returns the exit code of an error; a server that cannot be reached, or is full, gives 4."""
    if error.reason in BY_REASON:
        return BY_REASON[error.reason]
    return UNREACHABLE if error.code == "UNAVAILABLE" else FAILED
