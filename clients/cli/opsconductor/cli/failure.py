"""Shows errors: what failed, every fault on its own line, what to do next; never a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.cli import exit_codes
from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from opsconductor.cli.terminal import Terminal
    from opsconductor.rpc.errors import Fault


class UsageProblem(OpsConductorError):
    """The command was not used as it can be."""

    reason = "USAGE"
    code = "INVALID_ARGUMENT"


class NoContext(UsageProblem):
    """No context says where the orchestrator is."""

    reason = "NO_CONTEXT"


class Failed(OpsConductorError):
    """What was asked for could not be done."""

    reason = "FAILED"
    code = "FAILED_PRECONDITION"


_HINTS = {
    "UNAVAILABLE": "is it running? 'opsctl up --data-dir DIR --detach' starts it, "
    "'opsctl doctor' looks closer",
    "NO_AGENT": "'opsctl agents list' shows who is connected; "
    "'opsctl agents token create NAME --segment SEGMENT' lets a new agent join",
    "PERMISSION_DENIED": "the context's certificate decides who you are; "
    "OPSCONDUCTOR_CONTEXT chooses another context",
    "UNKNOWN_TOOL": "'opsctl tools list' shows all tools",
}

_LISTINGS = {
    "execution": "opsctl runs list",
    "approval request": "opsctl approvals list --state all",
    "agent": "opsctl agents list",
    "asset": "opsctl assets list",
}


def exit_code(error: OpsConductorError) -> int:
    """Returns the exit code of an error."""
    return exit_codes.USAGE if isinstance(error, UsageProblem) else exit_codes.of_error(error)


def show(terminal: Terminal, error: OpsConductorError, cause: str = "") -> None:
    """Writes an error to standard error.

    Args:
        terminal: Where to.
        error: What failed.
        cause: Why, where that was found out here; it stands instead of the usual hint.
    """
    terminal.note(f"error: {error.message} [{error.reason}]", style="red")
    for fault in error.faults:
        terminal.note(f"  {fault}")
    if (omitted := error.metadata.get("faults_omitted", "0")) != "0":
        terminal.note(f"  … and {omitted} more")
    if error.retry_after is not None:
        terminal.note(f"  try again in {error.retry_after.total_seconds():g} s")
    hint = cause or _listing(error) or _HINTS.get(error.reason) or _HINTS.get(error.code)
    if hint and not isinstance(error, UsageProblem):
        terminal.note(f"  {hint}")


def _listing(error: OpsConductorError) -> str:
    """Returns how to see the names there are, where one was not found."""
    for what, command in _LISTINGS.items():
        if error.reason == "NOT_FOUND" and error.message.startswith(f"there is no {what} "):
            return f"'{command}' shows them"
    return ""


def document(error: OpsConductorError) -> dict[str, Any]:
    """Returns an error as the JSON document that ``-o json`` gives for a plan that is not run."""
    return {
        "error": {
            "reason": error.reason,
            "message": error.message,
            "faults": [fault_document(fault) for fault in error.faults],
        }
    }


def fault_document(fault: Fault) -> dict[str, Any]:
    """Returns a fault as JSON types."""
    names = ("code", "step", "field", "found", "expected", "hint", "line")
    return {name: getattr(fault, name) for name in names}
