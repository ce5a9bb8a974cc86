"""Ending the process tree of a step on this host: TERM, grace, KILL, and evidence."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import MARKER
from opsconductor.agent.executors.processes import reap, send_signal, step_processes
from opsconductor.agent.executors.waiting import boottime

if TYPE_CHECKING:
    from datetime import timedelta

    from opsconductor.agent.executors.processes import ProcessInfo

_FIRST_LOOK = 0.01
_SLOWEST_LOOK = 0.2
# One look can miss a process forked while it was made; nobody forks between two empty ones.
_EMPTY_LOOKS = 2


class StepTree:
    """All processes of one attempt on this host."""

    def __init__(self, root: int, attempt_id: str) -> None:
        self._root = root
        self._marker = f"{MARKER}={attempt_id}".encode()
        self._seen: set[int] = set()

    async def stop(self, grace: timedelta, kill_wait: timedelta) -> tuple[str, ...]:
        """Ends the tree and returns the processes that are still there, one line each."""
        if not await self._end_by(signal.SIGTERM, grace.total_seconds(), repeat=False):
            await self._end_by(signal.SIGKILL, kill_wait.total_seconds(), repeat=True)
        return tuple(str(info) for info in await self._look())

    def reap(self) -> None:
        """Collects dead members that were handed to this process when their parents died."""
        for pid in self._seen - {self._root}:
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
            for info in members:
                if repeat or info.pid not in signalled:
                    send_signal(info, number)
                    signalled.add(info.pid)
            if boottime() >= deadline:
                return False
            await asyncio.sleep(delay if members else 0)
            delay = min(delay * 2, _SLOWEST_LOOK)

    async def _look(self) -> list[ProcessInfo]:
        members = await asyncio.to_thread(step_processes, self._root, self._marker)
        self._seen.update(info.pid for info in members)
        return members
