"""The time of day that the product's processes see, shifted while they run.

Where libfaketime is there, the C library itself lies, so that TLS and gRPC see the shift as well;
else, and in worlds that are about something else, the product's own clocks are patched.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PARTIES = ("agent", "orchestrator")
SEEN_AFTER = 1
"""Seconds after which a process sees a shift; to look each time would make everything slow."""
HINT = "no libfaketime: apt-get install faketime"


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
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": str(SEEN_AFTER),
            # Else durations jump as well, which no clock of a machine does.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
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


def fake_time_library() -> Path | None:
    """Returns libfaketime, None where it is not installed."""
    found = shutil.which("faketime")
    for root in [Path(found).resolve().parents[1] / "lib"] if found else []:
        for library in root.glob("*/faketime/libfaketime.so.1"):
            return library
    return None


def sweep() -> None:
    """Removes the shared memory that libfaketime leaves behind where a process was killed.

    It refuses to start under a number whose memory is still there.
    """
    for file in Path("/dev/shm").glob("*faketime_*"):
        number = file.name.rpartition("_")[2]
        if number.isdecimal() and not Path("/proc", number).exists():
            file.unlink(missing_ok=True)
