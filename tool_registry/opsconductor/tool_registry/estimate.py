"""How long a call is expected to take: linear in its inputs, no expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from opsconductor.tool_registry.model import Tool


def estimate(tool: Tool, inputs: Mapping[str, Any]) -> timedelta | None:
    """Returns the expected duration, None when the tool does not say or an input is unknown."""
    if tool.estimate is None:
        return None
    total = tool.estimate.base
    for name, each in tool.estimate.per.items():
        value = inputs.get(name)
        if isinstance(value, list):
            value = len(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        total += each * value
    return min(total, tool.timeout)
