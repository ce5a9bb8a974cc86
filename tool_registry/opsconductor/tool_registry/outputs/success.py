"""Judges whether a finished call did what the tool promises."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from opsconductor.tool_registry.expressions import ExpressionError, evaluate_bool
from opsconductor.tool_registry.text_safety import escaped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.tool_registry.model import Success, Tool

Judged = Literal["command", "dry_run"]
"""Sections whose success the definition tells."""


def failure_reason(
    tool: Tool,
    *,
    exit_code: int | None,
    output: Mapping[str, Any],
    inputs: Mapping[str, Any],
    stdout: bytes = b"",
    stderr: bytes = b"",
    section: Judged = "command",
) -> str | None:
    """Returns why a finished call counts as failed, None when it succeeded.

    ``exit_code`` is None for methods that have none (http, inventory).
    """
    success = criteria(tool, section)
    if exit_code is not None and exit_code not in success.exit_codes:
        return _with_last_line(f"exit code {exit_code}", stderr or stdout)
    text, errors = stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace")
    if success.stdout_regex and not re.search(success.stdout_regex, text):
        return "the output does not show success"
    if success.stderr_not_regex and (found := re.search(success.stderr_not_regex, errors)):
        return _with_last_line("the program reported an error", found[0].encode())
    if not success.expression:
        return None
    try:
        scope = {"output": dict(output), "exit_code": exit_code, "inputs": dict(inputs)}
        if evaluate_bool(success.expression, scope):
            return None
    except ExpressionError as exc:
        return f"success condition: {exc}"
    return _with_last_line(f"not true: {success.expression}", stderr)


def criteria(tool: Tool, section: Judged) -> Success:
    """Returns what must hold for a section's call to count as successful."""
    return tool.dry_run.success if section == "dry_run" and tool.dry_run else tool.success


def _with_last_line(reason: str, data: bytes) -> str:
    lines = data[-4096:].decode("utf-8", "replace").strip().splitlines()
    return f"{reason}: {escaped(lines[-1], 300)}" if lines else reason
