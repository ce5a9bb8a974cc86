"""PostgreSQL's NOTIFY and LISTEN: how orchestrators hint to each other that there is news."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any

import asyncpg
from sqlalchemy import text

from opsconductor.orchestrator.store.news import News, news_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import URL, Connection

    from opsconductor.orchestrator.store.base import Call, Outcome

LOG = logging.getLogger(__name__)

CHANNEL = "opsconductor_news"
RETRY = 2.0  # seconds; meanwhile everybody finds by looking what no hint pointed at
_NOTIFY = text("SELECT pg_notify(:channel, :payload)")


class Hints:
    """Tells others what was written here, and hears what they tell; its own it leaves out."""

    def __init__(self, url: URL, timeout: float) -> None:
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._timeout = timeout
        self._name = secrets.token_hex(4)
        self._connecting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def tell(
        self, connection: Connection, calls: Sequence[Call], outcomes: Sequence[Outcome]
    ) -> None:
        """Adds to a transaction what others hear when it is committed, and only then."""
        for news in news_of(calls, outcomes):
            payload = f"{self._name} {news.text()}"
            connection.execute(_NOTIFY, {"channel": CHANNEL, "payload": payload})

    def listen(self, heard: Callable[[News], None]) -> None:
        """Calls back with what others tell, until closed; a lost connection is made again."""
        self._task = asyncio.create_task(self._listen(heard), name="store-hints")

    async def close(self) -> None:
        """Ends listening."""
        if self._task:
            async with self._connecting:  # half a connection could not be closed
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await asyncio.sleep(0)  # in which the loop lets go of the connection

    async def _listen(self, heard: Callable[[News], None]) -> None:
        while True:
            try:
                await self._listen_once(heard)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
                LOG.debug("no hints from the store for now: %s", exc)
            await asyncio.sleep(RETRY)

    async def _listen_once(self, heard: Callable[[News], None]) -> None:
        def take(_connection: Any, _pid: int, _channel: str, payload: str) -> None:
            name, _, line = payload.partition(" ")
            if name != self._name:
                heard(News.read(line))

        ended = asyncio.Event()
        async with self._connecting:
            connection = await asyncpg.connect(self._url, timeout=self._timeout)
        try:
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(CHANNEL, take)
            heard(News(around=True))  # whatever was told before
            await ended.wait()
        finally:
            connection.terminate()
