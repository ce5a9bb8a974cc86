"""Keeps a tool whose orders crash the agent's own code from doing so over and over."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING

from opsconductor.agent.refusal import Refusal

if TYPE_CHECKING:
    from opsconductor.agent.order import Order

CRASHES_BORNE = 2
"""A tool is refused from this many crashes on."""


class Poison:
    """Crashes by tool since the process started; a restart gives every tool a fresh chance."""

    def __init__(self) -> None:
        self._crashes: Counter[str] = Counter()

    def check(self, order: Order) -> None:
        """Raises Refusal when the order's tool has crashed the agent too often."""
        tool = tool_of(order)
        if self._crashes[tool] >= CRASHES_BORNE:
            raise Refusal(
                "POISON",
                f"tool {tool} has crashed this agent's own code {self._crashes[tool]} times and is "
                "refused until the agent is started again; the agent's log has the details",
            )

    def crashed(self, order: Order, exc: Exception) -> Refusal:
        """Counts a crash and returns what to say about it."""
        tool = tool_of(order)
        self._crashes[tool] += 1
        message = f"the agent itself failed: {exc!r}; its log has the details"
        if self._crashes[tool] < CRASHES_BORNE:
            return Refusal("AGENT_DEFECT", message)
        more = f"tool {tool} is refused here until the agent is started again"
        return Refusal("POISON", f"{message}; {more}")


def tool_of(order: Order) -> str:
    """Returns what an order says it would run; bodies nobody can read are told apart by digest."""
    try:
        tool = json.loads(order.body)["tool"]
    except (ValueError, LookupError, TypeError, RecursionError):
        tool = None
    if isinstance(tool, str) and tool:
        return tool[:100]
    return f"of body {hashlib.sha256(order.body).hexdigest()[:16]}"
