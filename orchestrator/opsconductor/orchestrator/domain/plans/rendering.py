"""Commands as people read them before they run: secrets and late values are placeholders."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.findings import shown
from opsconductor.rpc.errors import OpsConductorError
from opsconductor.tool_registry.rendering.render import command_line, render

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.plans.bind import BoundCall

_REFERENCE = re.compile(r"(?<!\$)\$\{\{\s*(.*?)\s*\}\}")
SECRET = "\u2039secret\u203a"  # noqa: S105 - what is shown in place of one


def command_text(call: BoundCall) -> str:
    """Returns the command a call renders to, ready to paste where nothing is late or secret."""
    inputs = {name: _visible(call, name, value) for name, value in call.inputs.items()}
    try:
        return command_line(render(call.tool, inputs, call.target, section=call.section))
    except (OpsConductorError, ValueError, TypeError, KeyError):
        # A placeholder need not fit where a late value will: then the call itself is shown.
        words = [f"{name}={shown(value)}" for name, value in inputs.items()]
        return " ".join([call.tool.name, *words])


def render_problem(call: BoundCall) -> str:
    """Returns why a call's command cannot be made; empty when it can, or when inputs are late."""
    if call.late:
        return ""
    try:
        render(call.tool, call.inputs, call.target, section=call.section)
    except OpsConductorError as exc:
        return exc.message
    return ""


def _visible(call: BoundCall, name: str, value: Any) -> Any:
    if call.tool.properties.get(name, {}).get("writeOnly"):
        return SECRET
    return _placeholders(value) if name in call.late else value


def _placeholders(value: Any) -> Any:
    """Returns a late-bound value with each reference shown in angle quotation marks."""
    if isinstance(value, str):
        return _REFERENCE.sub("\u2039\\1\u203a", value)
    if isinstance(value, dict):
        return {key: _placeholders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_placeholders(item) for item in value]
    return value
