"""What the steps of the chaos suite run: writes the truth down outside the product.

``program.py LEDGER ROLE -- KEY BYTES MILLISECONDS EXIT FAILURES TREE``. Appends a line to the
ledger and syncs it before anything else and again at the end; prints a stream that anyone can
compute again; holds a lock for as long as it lives, so that two of one key at a time are seen by
the kernel's own word. Runs with ``python -I -S``, alone: nothing of the product is loaded.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

LINE_BYTES = 74


def stream(attempt: str, size: int) -> bytes:
    """Returns the output of an attempt: numbered lines nobody else would print."""
    count = size // LINE_BYTES
    return b"".join(
        b"%08d %s\n" % (number, hashlib.sha256(f"{attempt}:{number}".encode()).hexdigest().encode())
        for number in range(count)
    )


def main() -> int:
    """Runs as a step; returns the exit code that was asked for."""
    ledger, role, _, key, size, milliseconds, code, failures, tree = sys.argv[1:10]
    overlap = not _alone(f"{ledger}.locks", key)
    entry = {
        "key": key,
        "role": role,
        "attempt": os.environ.get("OPSCONDUCTOR_ATTEMPT", ""),
        "execution": os.environ.get("OPSCONDUCTOR_EXECUTION_ID", ""),
        "step": os.environ.get("OPSCONDUCTOR_STEP_ID", ""),
        "pid": os.getpid(),
    }
    earlier = _write(ledger, {"t": "start", **entry, "overlap": overlap, "bytes": int(size)})
    if tree == "1":
        _grow_a_tree()
    _print(stream(str(entry["attempt"]), int(size)), int(milliseconds) / 1000)
    exit_code = 7 if earlier < int(failures) else int(code)
    _write(ledger, {"t": "end", **entry, "exit": exit_code})
    return exit_code


def _alone(folder: str, key: str) -> bool:
    """Takes the key's lock and keeps it; tells whether nobody held it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(f"{folder}/{key}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(ledger: str, entry: dict[str, object]) -> int:
    """Appends a line for certain; returns how many starts of this key stood there before."""
    clock = {"boot": time.clock_gettime(time.CLOCK_BOOTTIME), "wall": time.time()}
    descriptor = os.open(ledger, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    count = 0
    if entry["t"] == "start" and entry["role"] == "retry":
        wanted = f'"key": "{entry["key"]}"'.encode()
        with Path(ledger).open("rb") as file:
            count = sum(wanted in line and b'"t": "start"' in line for line in file)
    os.write(descriptor, json.dumps({**entry, **clock}).encode() + b"\n")
    os.fsync(descriptor)
    os.close(descriptor)
    return count


def _print(data: bytes, seconds: float) -> None:
    """Writes to standard output, spread over some time."""
    pieces = 10 if seconds else 1
    step = -(-len(data) // pieces) if data else 0
    for number in range(pieces):
        piece = data[number * step : (number + 1) * step]
        while piece:
            piece = piece[os.write(1, piece) :]
        if seconds:
            time.sleep(seconds / pieces)


def _grow_a_tree() -> None:
    """Leaves a child that ignores TERM and a daemon that left our session and closed our pipes."""
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(120)
        os._exit(0)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(nothing, number)
            time.sleep(120)
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
