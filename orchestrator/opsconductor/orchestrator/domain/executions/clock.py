"""The clock by which an execution is moved; what lasts is as long when somebody sets it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Clock:
    """The time of day as one orchestrator tells it, and each time that somebody has set it.

    What lasts (a plan's time limit, the wait before a next try) begins with the clock's mark and
    moves along with every step since. A mark of another clock tells nothing: from one orchestrator
    to another, or from one life of it to the next, there is only the time of day.
    """

    name: str = ""
    """Of the process; empty for none, which never counts."""
    steps: tuple[timedelta, ...] = ()
    """How far it was set, each time; positive is ahead."""

    @property
    def mark(self) -> str:
        """What is kept with something that begins now."""
        return f"{self.name}/{len(self.steps)}" if self.name else ""

    def moved_since(self, mark: str) -> timedelta:
        """Returns how far it was set since then."""
        name, _, count = mark.rpartition("/")
        if not self.name or name != self.name:
            return timedelta()
        return sum(self.steps[int(count) :], timedelta())
