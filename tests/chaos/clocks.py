"""The time of day that the product's processes see, shifted while they run.

Where libfaketime is there, the C library itself lies, so that TLS and gRPC see the shift as well;
else, and in worlds that are about something else, the product's own clocks are patched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers import fake_time

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PARTIES = ("agent", "orchestrator")
SEEN_AFTER = 1
"""Seconds after which a process sees a shift; to look each time would make everything slow."""


@dataclass(frozen=True)
class Clock:
    """The shifts of one world, kept in a file for each kind of process."""

    folder: Path
    library: Path | None = None
    """libfaketime; None patches the product."""

    def variables(self, party: str) -> dict[str, str]:
        """Returns the environment under which a kind of process sees its shift."""
        file = self._file(party)
        if self.library is None:
            return {"OPSC_CHAOS_CLOCK": str(file)}
        if not file.exists():
            self.set(0.0, (party,))
        return {
            **fake_time.variables(self.library, file),
            "FAKETIME_CACHE_DURATION": str(SEEN_AFTER),
        }

    def set(self, seconds: float, parties: Iterable[str] = PARTIES) -> None:
        """Shifts the clock of some kinds of processes at once."""
        text = f"{seconds:+.1f}\n" if self.library else str(seconds)
        for party in parties:
            new = self.folder / f"clock-{party}.new"
            new.write_text(text)
            new.replace(self._file(party))

    def _file(self, party: str) -> Path:
        return self.folder / f"clock-{party}"
