"""Limits: how much there may be at a time, set by variables."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLES = "OPSCONDUCTOR_MAX_"
"""Prefix of the variables that set limits, such as OPSCONDUCTOR_MAX_OPEN_EXECUTIONS."""


@dataclass(frozen=True)
class Limits:
    """How much there may be at a time; 0 is no limit."""

    open_executions: int = 20_000
    """Executions of a tenant that have not ended."""
    waiting_steps: int = 100_000
    """Steps of a tenant that are ready and have no agent."""
    segment_waiting_steps: int = 50_000
    """Of them, those for each segment."""
    agent_waiting_steps: int = 50_000
    """Of them, those that only one agent could run, for each agent."""
    target_waiting_steps: int = 10_000
    """Of them, those for each target."""
    tenant_attempts: int = 0
    """Attempts of a tenant under way."""
    segment_attempts: int = 0
    """Attempts under way in each of a tenant's segments."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Limits:
        """Reads OPSCONDUCTOR_MAX_* variables. Raises InvalidArgument for what is no number."""
        given = {}
        for item in fields(cls):
            name = VARIABLES + item.name.upper()
            text = environment.get(name, "")
            if not text:
                continue
            if not text.isdecimal():
                raise InvalidArgument(f"{name} is {text!r}: expected a number, 0 for no limit")
            given[item.name] = int(text)
        return cls(**given)
