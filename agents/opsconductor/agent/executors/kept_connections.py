"""Connections kept between calls: one user at a time, closed when idle, replaced when dead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Key = TypeVar("Key", bound=Hashable)
Connection = TypeVar("Connection")


class KeptConnections(Generic[Key, Connection]):
    """Lends connections by login; only one that ended its use well is kept."""

    def __init__(
        self,
        open_one: Callable[[Key], Awaitable[Connection]],
        close_one: Callable[[Connection], Awaitable[None]],
        is_alive: Callable[[Connection], Awaitable[bool]],
        *,
        idle: float = 120.0,
        most: int = 8,
    ) -> None:
        """Takes how to open, close and try a connection; ``most`` are open at once for a login."""
        self._open = open_one
        self._close = close_one
        self._is_alive = is_alive
        self._idle = idle
        self._most = most
        self._kept: dict[Key, list[Connection]] = {}
        self._gates: dict[Key, asyncio.Semaphore] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def lent(self, key: Key) -> AsyncIterator[Connection]:
        """Lends a connection; one whose use raised or was cancelled is closed, not kept."""
        async with self._gates.setdefault(key, asyncio.Semaphore(self._most)):
            connection = await self._take(key)
            try:
                yield connection
            except BaseException:
                self._discard(connection)
                raise
            self._keep(key, connection)

    async def close(self) -> None:
        """Closes everything that is kept."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        kept, self._kept = self._kept, {}
        for connections in kept.values():
            for connection in connections:
                self._discard(connection)
        while self._closing:
            await asyncio.wait(set(self._closing))

    async def _take(self, key: Key) -> Connection:
        """Returns a kept connection that still answers, or a new one."""
        while kept := self._kept.get(key):
            connection = kept.pop()
            self._stop_timer(connection)
            if await self._is_alive(connection):
                return connection
            self._discard(connection)
        return await self._open(key)

    def _keep(self, key: Key, connection: Connection) -> None:
        self._kept.setdefault(key, []).append(connection)
        loop = asyncio.get_running_loop()
        self._timers[id(connection)] = loop.call_later(self._idle, self._expire, key, connection)

    def _expire(self, key: Key, connection: Connection) -> None:
        self._timers.pop(id(connection), None)
        kept = self._kept.get(key, [])
        if connection in kept:
            kept.remove(connection)
            self._discard(connection)
        if not kept:
            self._kept.pop(key, None)

    def _stop_timer(self, connection: Connection) -> None:
        timer = self._timers.pop(id(connection), None)
        if timer is not None:
            timer.cancel()

    def _discard(self, connection: Connection) -> None:
        task = asyncio.ensure_future(self._close_quietly(connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_quietly(self, connection: Connection) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(5):
                await self._close(connection)
