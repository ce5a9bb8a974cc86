"""Work that goes on by itself: tasks in the background, and moves that outlive their callers."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

LOG = logging.getLogger(__name__)

PATIENCE = 3.0  # seconds
OTHERS_FIRST = 0.3  # seconds


class Trouble:
    """Logs what goes wrong over and over now and then, and the rest for debugging only."""

    def __init__(self, log: logging.Logger, every: float = 30.0) -> None:
        self._log = log
        self._every = every
        self._said = float("-inf")
        self._more = 0

    def say(self, message: str) -> None:
        """Logs what went wrong, or counts it."""
        now = asyncio.get_running_loop().time()
        if now - self._said < self._every:
            self._more += 1
            self._log.debug("%s", message)
            return
        more = f" (and {self._more} times something like it before)" if self._more else ""
        self._log.warning("%s%s", message, more)
        self._said, self._more = now, 0


class Work:
    """The engine's tasks."""

    def __init__(self) -> None:
        self._loops: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._moves: set[asyncio.Task[object]] = set()
        self._ending = False
        self.coming: set[str] = set()
        """Names of tasks that will start in a while."""

    def go_on_with(self, work: Coroutine[None, None, None]) -> None:
        """Starts a task that goes on until the engine stops."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(_say_why_it_ended)
        self._loops.add(task)

    def start(self, work: Coroutine[None, None, None]) -> None:
        """Starts a task that soon ends by itself; none while the engine stops."""
        if self._ending:
            work.close()
            return
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def start_in(self, seconds: float, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Starts a task after a while."""
        asyncio.get_running_loop().call_later(seconds, lambda: self.start(work()))

    def after_others(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Does what the orchestrator that moves an execution was asked to do as well, a bit later.

        Both at once would only stand in each other's way.
        """
        self.start_in(OTHERS_FIRST, work)

    def start_once_in(
        self, seconds: float, name: str, work: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        """Starts a task after a while, unless one of its name is coming anyway."""
        if name in self.coming:
            return
        self.coming.add(name)

        def start() -> None:
            self.coming.discard(name)
            self.start(work())

        asyncio.get_running_loop().call_later(seconds, start)

    async def to_its_end(self, move: Coroutine[None, None, T]) -> T:
        """Carries a move to its end even when its caller is cancelled.

        A caller that hangs up during a commit must not leave memory behind what was written.
        """
        task = asyncio.ensure_future(move)
        self._moves.add(task)
        task.add_done_callback(self._move_ended)
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """Ends what goes on and waits for the rest, for a while."""
        self._ending = True
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self._tasks:
            # Cancelled in the middle of a query they would cost a connection.
            await asyncio.wait(self._tasks, timeout=PATIENCE)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*self._moves, return_exceptions=True)

    def _move_ended(self, task: asyncio.Task[T]) -> None:
        self._moves.discard(task)
        if not task.cancelled():
            task.exception()  # told to the caller, if there still is one


def _say_why_it_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        LOG.critical("%s ended, and must not: %r", task, error, exc_info=error)
