"""libfaketime: a C library that lies to one process about the time of day, while it runs."""

from __future__ import annotations

import shutil
from pathlib import Path

HINT = "no libfaketime: apt-get install faketime"


def library() -> Path | None:
    """Returns libfaketime, None where it is not installed."""
    found = shutil.which("faketime")
    for root in [Path(found).resolve().parents[1] / "lib"] if found else []:
        for library in root.glob("*/faketime/libfaketime.so.1"):
            return library
    return None


def variables(library: Path, shift: Path) -> dict[str, str]:
    """Returns the environment of a process that sees the shift in a file, such as ``+3h``."""
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(shift),
        # Else durations jump as well, which no clock of a machine does.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def sweep() -> None:
    """Removes the shared memory that libfaketime leaves behind where a process was killed.

    It refuses to start under a number whose memory is still there.
    """
    for file in Path("/dev/shm").glob("*faketime_*"):
        number = file.name.rpartition("_")[2]
        if number.isdecimal() and not Path("/proc", number).exists():
            file.unlink(missing_ok=True)
