"""Collecting the dead children of steps that outlived their parents."""

from __future__ import annotations

import asyncio
import ctypes
import os

from opsconductor.agent.executors.processes import process_table, reap
from opsconductor.agent.executors.waiting import boottime

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_EVERY = 30.0


class OrphanReaper:
    """Makes this process the parent of its steps' orphans and collects them when they are dead.

    A dead child that stays uncollected from one sweep to the next is nobody else's: whoever started
    it on purpose would have waited for it by then.
    """

    def __init__(self) -> None:
        # Without it (an old kernel) orphans go to init, which collects them as well.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._owned: set[int] = set()
        self._suspects: set[int] = set()
        self._last = boottime()
        self._sweeping: asyncio.Task[None] | None = None

    def own(self, pid: int) -> None:
        """Excepts a child that its executor waits for."""
        self._owned.add(pid)

    def disown(self, pid: int) -> None:
        """Ends the exception."""
        self._owned.discard(pid)

    def sweep(self) -> None:
        """Starts a look for dead orphans in a thread, at most every half minute."""
        now = boottime()
        if now - self._last >= _EVERY and (self._sweeping is None or self._sweeping.done()):
            self._last = now
            self._sweeping = asyncio.create_task(self._collect())

    async def close(self) -> None:
        """Waits for a sweep that is under way."""
        if self._sweeping is not None:
            await self._sweeping

    async def _collect(self) -> None:
        dead = await asyncio.to_thread(_dead_children)
        dead -= self._owned
        for pid in dead & self._suspects:
            reap(pid)
        self._suspects = dead - self._suspects


def _dead_children() -> set[int]:
    this = os.getpid()
    return {info.pid for info in process_table() if info.parent == this and info.state == "Z"}
