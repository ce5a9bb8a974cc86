"""Ending the process tree of a step on this host: TERM, grace, KILL, and evidence."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from opsconductor.agent.executors.elevation import signal_by_sudo
from opsconductor.agent.executors.processes import (
    DEAD,
    inspect,
    reap,
    send_signal,
    step_processes,
)
from opsconductor.agent.executors.waiting import boottime

if TYPE_CHECKING:
    from datetime import timedelta

    from opsconductor.agent.executors.cgroups import Cgroup
    from opsconductor.agent.executors.processes import ProcessInfo, Traces

_FIRST_LOOK = 0.01
_SLOWEST_LOOK = 0.2
# One look can miss a process forked while it was made; nobody forks between two empty ones.
_EMPTY_LOOKS = 2


class StepTree:
    """All processes of one attempt on this host."""

    def __init__(self, traces: Traces, cgroup: Cgroup | None = None) -> None:
        self._traces = traces
        self._cgroup = cgroup
        self._seen: dict[int, int] = {}
        """Start times of every member there was."""

    async def stop(self, grace: timedelta, kill_wait: timedelta) -> tuple[str, ...]:
        """Ends the tree and returns the processes that are still there, one line each."""
        if not await self._end_by(signal.SIGTERM, grace.total_seconds(), repeat=False):
            await self._end_by(signal.SIGKILL, kill_wait.total_seconds(), repeat=True)
        return tuple(str(info) for info in await self._look())

    def reap(self) -> None:
        """Collects dead members that were handed to this process when their parents died."""
        root = self._traces.root
        for pid in self._seen.keys() - {root.pid if root else 0}:
            reap(pid)

    async def _end_by(self, number: signal.Signals, seconds: float, *, repeat: bool) -> bool:
        """Signals every member once (or at each look) until none is left or time is up."""
        deadline = boottime() + seconds
        signalled: set[int] = set()
        empty = 0
        delay = _FIRST_LOOK
        while True:
            members = await self._look()
            empty = 0 if members else empty + 1
            if empty == _EMPTY_LOOKS:
                return True
            if repeat and self._cgroup is not None:
                self._cgroup.kill()
            due = [info for info in members if repeat or info.pid not in signalled]
            signalled.update(info.pid for info in due)
            if others := [info for info in due if not send_signal(info, number)]:
                await asyncio.to_thread(signal_by_sudo, others, number)
            if boottime() >= deadline:
                return False
            await asyncio.sleep(delay if members else 0)
            delay = min(delay * 2, _SLOWEST_LOOK)

    async def _look(self) -> list[ProcessInfo]:
        return await asyncio.to_thread(self._members)

    def _members(self) -> list[ProcessInfo]:
        grouped = self._cgroup.members if self._cgroup is not None else frozenset()
        found = step_processes(self._traces, grouped)
        # One that left session, group and parent since it was first seen is a member all the same.
        missing = self._seen.keys() - {info.pid for info in found}
        found += [info for pid in missing if (info := inspect(pid)) and self._is_alive(info)]
        self._seen.update({info.pid: info.started for info in found})
        return found

    def _is_alive(self, info: ProcessInfo) -> bool:
        return info.started == self._seen[info.pid] and info.state not in DEAD
