"""The process table of this host, and the processes that belong to one step (proc(5))."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PROC = Path("/proc")
DEAD = frozenset("ZX")
"""States of processes that run no more."""


class ProcessId(NamedTuple):
    """A process, told from a later one of the same number."""

    pid: int
    started: int = 0
    """Clock ticks after boot; 0 where the number cannot have been given away again."""


@dataclass(frozen=True, slots=True)
class Traces:
    """What the processes of a step are known by."""

    marker: bytes
    root: ProcessId | None = None
    """Its first process, which leads a session."""
    supervisor: ProcessId | None = None
    """Parent of every orphan of the step, and of nothing else."""


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
    return [info for pid in pids if (info := inspect(pid)) is not None]


def step_processes(traces: Traces, known: Iterable[int] = ()) -> list[ProcessInfo]:
    """Returns the live processes of a step.

    They are those in the session or group of its first process, those with the marker in their
    environment, those ``known`` to be, the supervisor's children, and all their descendants.
    """
    table = {info.pid: info for info in process_table()}
    root, parent = (_still(identity, table) for identity in (traces.root, traces.supervisor))
    members = {
        info.pid
        for info in table.values()
        if root in (info.pid, info.group, info.session)
        or info.parent == parent
        or _is_marked(info.pid, traces.marker)
    }
    members.update(known)
    grown = True
    while grown:
        more = {info.pid for info in table.values() if info.parent in members} - members
        members |= more
        grown = bool(more)
    return [table[pid] for pid in sorted(members & table.keys()) if table[pid].state not in DEAD]


def _still(identity: ProcessId | None, table: Mapping[int, ProcessInfo]) -> int | None:
    """Returns the number of a process if it can still stand for it.

    No number stands for nobody: of a process that is being collected the kernel says that its
    group and session are -1.
    """
    if identity is None:
        return None
    now = table.get(identity.pid)
    reused = identity.started and now is not None and now.started != identity.started
    return None if reused else identity.pid


def send_signal(info: ProcessInfo, number: signal.Signals) -> bool:
    """Sends a signal to exactly this process, if it is still there.

    Returns False when it is another user's, which this one may not end.
    """
    try:
        handle = os.pidfd_open(info.pid)
    except OSError:
        return True
    try:
        now = inspect(info.pid)
        if now is not None and now.started == info.started:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    finally:
        os.close(handle)
    return True


def reap(pid: int) -> int | None:
    """Returns the wait status of a dead child of ours; None when there is none to collect."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return status if found else None


def inspect(pid: int) -> ProcessInfo | None:
    """Returns a process; None when there is none of that number."""
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
