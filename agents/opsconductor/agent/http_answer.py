"""What the answer to an HTTP request means for a tool: its status decides, its body is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opsconductor.agent.report import Failure
from opsconductor.tool_registry.outputs.reading import output_spec
from opsconductor.tool_registry.outputs.success import criteria

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import ErrorClass
    from opsconductor.tool_registry.model import Tool
    from opsconductor.tool_registry.rendering.render import Section

_BAD = 400
_SERVER_ERROR = 500
_LATER = frozenset({408, 425, 429})


def failure(tool: Tool, section: Section, output: Any) -> Failure | None:
    """Returns why an answer counts as failed; a tool whose success names the status judges it."""
    if not _is_answer(output):
        return None
    judges = section in ("command", "dry_run") and "output.status" in (
        criteria(tool, section).expression
    )
    if judges and not is_parsed(tool, section, output):
        return None
    status = int(output["status"])
    if status < _BAD:
        return None
    kind: ErrorClass = "non_retryable"
    if status in _LATER:
        kind = "throttled"
    elif status >= _SERVER_ERROR:
        kind = "retryable"
    said = " ".join(str(output.get("body_excerpt", "")).split())[:300]
    part = section.replace("_", " ")
    what = tool.name if section == "command" else f"the {part} of {tool.name}"
    return Failure("HTTP_STATUS", f"{what} was answered {status}: {said or '(nothing)'}", kind)


def is_parsed(tool: Tool, section: Section, output: Any) -> bool:
    """Returns whether the tool's parser reads the body; ``none`` keeps the answer as it is."""
    if not _is_answer(output) or section == "undo":
        return False
    return bool(output_spec(tool, section).get("parser", "none") != "none")


def _is_answer(output: Any) -> bool:
    return isinstance(output, Mapping) and {"status", "body_excerpt"} <= set(output)
