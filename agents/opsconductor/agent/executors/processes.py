"""The process table of this host, and the processes that belong to one step (proc(5))."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_DEAD = frozenset("ZX")


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process as the kernel showed it."""

    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int
    started: int
    """Clock ticks after boot; together with the pid it names one process for good."""

    def __str__(self) -> str:
        """Returns the process as one line for people."""
        return f"pid {self.pid} {self.name} ({self.state})"


def process_table() -> list[ProcessInfo]:
    """Returns every process that can be seen, zombies included."""
    entries = os.listdir(_PROC)  # noqa: PTH208 - a Path for every process would double the cost
    pids = (int(entry) for entry in entries if entry.isdigit())
    return [info for pid in pids if (info := _inspect(pid)) is not None]


def step_processes(root: int, marker: bytes) -> list[ProcessInfo]:
    """Returns the live processes of a step.

    They are those in the session or group of its first process, those with the marker in their
    environment, and all their descendants. The first process must not have been reaped, or its
    number could stand for another one.
    """
    table = process_table()
    members = {
        info.pid
        for info in table
        if root in (info.pid, info.group, info.session) or _is_marked(info.pid, marker)
    }
    grown = True
    while grown:
        more = {info.pid for info in table if info.parent in members} - members
        members |= more
        grown = bool(more)
    return [info for info in table if info.pid in members and info.state not in _DEAD]


def send_signal(info: ProcessInfo, number: signal.Signals) -> None:
    """Sends a signal to exactly this process; does nothing when it is gone or not ours to end."""
    try:
        handle = os.pidfd_open(info.pid)
    except OSError:
        return
    try:
        now = _inspect(info.pid)
        if now is not None and now.started == info.started:
            signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        os.close(handle)


def reap(pid: int) -> int | None:
    """Returns the wait status of a dead child of ours; None when there is none to collect."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return status if found else None


def _inspect(pid: int) -> ProcessInfo | None:
    try:
        line = (_PROC / str(pid) / "stat").read_bytes().decode(errors="replace")
    except OSError:
        return None
    # The name stands in brackets and may itself hold brackets and blanks.
    name, _, rest = line.partition("(")[2].rpartition(") ")
    fields = rest.split()
    return ProcessInfo(
        pid, name, fields[0], int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19])
    )


def _is_marked(pid: int, marker: bytes) -> bool:
    try:
        return marker in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
