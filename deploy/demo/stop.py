"""Ends a demo that was kept running: ``stop.py FOLDER``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_SECONDS = 45


def main() -> int:
    """Stops the processes and namespaces of one demo folder, and removes it."""
    if len(sys.argv) != 2:
        print("usage: stop.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    try:
        record = json.loads((folder / "demo.json").read_text())
    except (OSError, ValueError) as exc:
        print(f"{folder} is not the folder of a running demo: {exc}", file=sys.stderr)
        return 2
    pids = [pid for pid in record["pids"] if _is_ours(pid, folder)]
    for webctl in record["webctl"]:
        subprocess.run([webctl, "stop", "web"], check=False, capture_output=True)
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    opsctl = Path(sys.executable).parent / "opsctl"
    subprocess.run([opsctl, "down", "--data-dir", folder / "data"], check=False)
    deadline = time.monotonic() + _SECONDS
    while any(_is_ours(pid, folder) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    for name in record["namespaces"]:
        subprocess.run(["ip", "netns", "delete", name], check=False)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _is_ours(pid: int, folder: Path) -> bool:
    """Tells whether a process still runs and belongs to the demo; numbers are used again."""
    with contextlib.suppress(OSError):
        return str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


if __name__ == "__main__":
    sys.exit(main())
