"""Ends a demo that was kept running: ``stop.py FOLDER``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path


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
    opsctl = Path(sys.executable).parent / "opsctl"
    subprocess.run([opsctl, "down", "--data-dir", folder / "data"], check=False)
    for pid in record["pids"]:
        with contextlib.suppress(OSError):
            if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)
    for name in record["namespaces"]:
        subprocess.run(["ip", "netns", "delete", name], check=False)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
