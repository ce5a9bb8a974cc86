"""PostgreSQL through asyncpg: one connection writes, a few read."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from opsconductor.orchestrator.store.base import CommitUnknown, SequenceConflict
from opsconductor.orchestrator.store.batch import commit_batch, has_arrived
from opsconductor.orchestrator.store.faults import answer, brief
from opsconductor.orchestrator.store.listening import Hints
from opsconductor.orchestrator.store.migrate import upgrade
from opsconductor.rpc.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import URL, Connection

    from opsconductor.orchestrator.store.base import Call, Outcome, T
    from opsconductor.orchestrator.store.batch import Lengths
    from opsconductor.orchestrator.store.news import News

_READERS = 5
_CONNECT_TIMEOUT = timedelta(seconds=10)
_COMMAND_TIMEOUT = timedelta(seconds=30)
_IDLE_TIMEOUT = timedelta(seconds=5)
"""The server ends a transaction whose client, frozen or cut off, goes on with it no sooner.

Until then it keeps its locks, and whoever would take over its work waits for them.
"""
_PAUSES = (timedelta(0), timedelta(milliseconds=100), timedelta(seconds=1))
"""Before each try of a write: a restart or failover of the server is often over within a second."""

_LOST = (OSError, TimeoutError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError)


class PostgresDatabase:
    """A PostgreSQL database that several orchestrators may share; see ``Database``."""

    def __init__(self, url: URL) -> None:
        self._name = url.render_as_string(hide_password=True)
        self._lengths: Lengths = {}
        self._hints = Hints(url, _CONNECT_TIMEOUT.total_seconds())
        self._writer = _engine(url, 1)
        self._readers = _engine(url, _READERS).execution_options(isolation_level="AUTOCOMMIT")

    @classmethod
    async def open(cls, url: URL, now: datetime) -> PostgresDatabase:
        """Connects and brings the schema up to date, waiting for others that do the same."""
        database = cls(url)
        try:
            await database._on(database._writer, partial(upgrade, now=now))
        except _LOST as exc:
            await database.close()
            raise database._unavailable(exc) from exc
        except BaseException:
            await database.close()
            raise
        return database

    async def commit(self, calls: Sequence[Call]) -> list[Outcome]:
        """See ``Database.commit``; a commit with an unknown end is looked up, then repeated."""
        unknown: CommitUnknown | None = None
        lost: BaseException | None = None
        for pause in _PAUSES:
            await asyncio.sleep(pause.total_seconds())
            try:
                if unknown and await self._has_arrived(calls, unknown):
                    return unknown.outcomes
                outcomes = await self._on(
                    self._writer,
                    partial(
                        commit_batch, calls=calls, lengths=self._lengths, tell=self._hints.tell
                    ),
                )
                # The lost transaction may have held its keys until we met them.
                if unknown and _met_itself(outcomes) and await self._has_arrived(calls, unknown):
                    return unknown.outcomes
            except CommitUnknown as exc:
                unknown, lost = exc, exc.__cause__
            except _LOST as exc:
                lost = exc
            else:
                return outcomes
        raise self._unavailable(lost) from lost

    async def read(self, query: Callable[[Connection], T]) -> T:
        """See ``Database.read``; asks twice, for a pooled connection may have died unnoticed."""
        try:
            return await self._on(self._readers, partial(answer, query))
        except _LOST:
            try:
                return await self._on(self._readers, partial(answer, query))
            except _LOST as exc:
                raise self._unavailable(exc) from exc

    async def close(self) -> None:
        """Closes every connection."""
        await self._hints.close()
        await self._writer.dispose()
        await self._readers.dispose()

    @property
    def shared(self) -> bool:
        """True: that is what it is for."""
        return True

    def listen(self, heard: Callable[[News], None]) -> None:
        """See ``Database.listen``."""
        self._hints.listen(heard)

    async def _on(self, engine: AsyncEngine, function: Callable[[Connection], T]) -> T:
        async with engine.connect() as connection:
            try:
                return await connection.run_sync(function)
            except (CommitUnknown, OSError, TimeoutError):
                # What the server still does on this connection must not meet what we do next.
                await connection.invalidate()
                raise

    async def _has_arrived(self, calls: Sequence[Call], unknown: CommitUnknown) -> bool:
        return await self._on(
            self._writer, partial(has_arrived, calls=calls, outcomes=unknown.outcomes)
        )

    def _unavailable(self, cause: BaseException | None) -> StoreUnavailable:
        return StoreUnavailable(f"{self._name} does not answer: {brief(cause)}")


def _met_itself(outcomes: Sequence[Outcome]) -> bool:
    return any(isinstance(outcome, SequenceConflict) for outcome in outcomes)


def _engine(url: URL, connections: int) -> AsyncEngine:
    query = dict(url.query)
    if "sslmode" in query:  # libpq's word for it
        query["ssl"] = query.pop("sslmode")
    return create_async_engine(
        url.set(drivername="postgresql+asyncpg", query=query),
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,  # they may be secret, and errors are shown
        connect_args={
            "timeout": _CONNECT_TIMEOUT.total_seconds(),
            "command_timeout": _COMMAND_TIMEOUT.total_seconds(),
            "server_settings": {
                "idle_in_transaction_session_timeout": f"{_IDLE_TIMEOUT.total_seconds():.0f}s"
            },
        },
    )
