"""A broken promise, with what shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """One invariant that does not hold."""

    invariant: str
    text: str
    execution_id: str = ""
    time: float = 0.0
    """When, in seconds since 1970; 0 where the execution says it."""

    def __str__(self) -> str:
        where = f" {self.execution_id}" if self.execution_id else ""
        return f"{self.invariant}{where}: {self.text}"
