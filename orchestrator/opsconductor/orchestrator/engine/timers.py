"""Timers: when which execution has to be asked again although nothing happened."""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


class Timers:
    """A queue of executions by the time at which they come up."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._queue: list[tuple[datetime, str]] = []
        self._known: set[tuple[datetime, str]] = set()
        self._wake = asyncio.Event()

    def put(self, time: datetime, execution_id: str) -> None:
        """Adds a time; one that has passed comes up at once."""
        # An execution that was out of memory meanwhile asks again for what it has asked for.
        if (time, execution_id) in self._known:
            return
        self._known.add((time, execution_id))
        heapq.heappush(self._queue, (time, execution_id))
        self._wake.set()

    def waiting(self) -> list[str]:
        """Returns all that wait for a time, soonest first."""
        return list(dict.fromkeys(execution_id for _, execution_id in sorted(self._queue)))

    async def next(self) -> str:
        """Waits for the next execution to come up, and takes it off the queue."""
        while True:
            self._wake.clear()
            wait = None
            if self._queue:
                wait = (self._queue[0][0] - self._clock()).total_seconds()
                if wait <= 0:
                    first = heapq.heappop(self._queue)
                    self._known.discard(first)
                    return first[1]
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue
