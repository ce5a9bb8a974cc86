"""The database: the product's own SQL on SQLite in memory, with a server's manners around it.

A transaction takes its time, arrives even when its sender died meanwhile, may fail, and may succeed
without its answer arriving. The whole can be put back to an older state.
"""

from __future__ import annotations

import asyncio
import copy
import sqlite3
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.pool import StaticPool

from opsconductor.orchestrator.store.batch import commit_batch
from opsconductor.orchestrator.store.faults import answer
from opsconductor.orchestrator.store.migrate import upgrade
from opsconductor.orchestrator.store.news import News, news_of
from opsconductor.rpc.errors import StoreUnavailable
from simulation.virtual_loop import PROCESS, Process

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from opsconductor.orchestrator.store.base import Call, Outcome, T
    from simulation.virtual_loop import VirtualLoop


class Memory:
    """A database in memory: its content can be replaced, what SQLAlchemy has compiled is kept."""

    def __init__(self) -> None:
        self.raw = _connect()
        self.engine = create_engine("sqlite://", creator=lambda: self.raw, poolclass=StaticPool)
        event.listen(self.engine, "begin", self._begin)
        self.connection = self.engine.connect()

    def fill(self, content: bytes) -> None:
        """Replaces the content; a connection that has used json_each does not outlive that."""
        self.connection.close()
        self.engine.dispose()
        self.raw.close()
        self.raw = _connect()
        self.raw.deserialize(content)
        self.connection = self.engine.connect()

    def _begin(self, _: Connection) -> None:
        self.raw.execute("BEGIN IMMEDIATE")


def _connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)


@cache
def _memory() -> Memory:
    return Memory()


@cache
def empty_database() -> bytes:
    """Returns a fresh database's bytes; migrations run once."""
    memory = _memory()
    with memory.engine.connect() as connection:
        upgrade(connection, datetime(2026, 3, 1, tzinfo=UTC))
    return memory.raw.serialize()


class DatabaseServer:
    """The database's machine: outlives every orchestrator."""

    def __init__(self, loop: VirtualLoop, rng: random.Random, clock: Callable[[], float]) -> None:
        self.loop = loop
        self.rng = rng
        empty = empty_database()
        self._clock = clock
        self._memory = _memory()
        self._fill(empty)
        self._memory.raw.execute("UPDATE meta SET value = 'first' WHERE key = 'incarnation'")
        self.shared = False
        self.sessions = 0
        self.listeners: list[tuple[DatabaseSession, Process | None, Callable[[News], None]]] = []
        self.seconds = (0.0003, 0.006)
        self.failing = 0.0
        self.losing_answers = 0.0
        self.down = False
        self.age = 0
        """How often it was put back."""
        self._snapshots: list[tuple[float, bytes, Any]] = []
        self.on_commit: Callable[[Sequence[Call], Sequence[Outcome], int], None] = (
            lambda _, __, ___: None
        )
        self.snapshot_of_checker: Callable[[], Any] = lambda: None
        self.restore_checker: Callable[[Any], None] = lambda _: None

    def session(self) -> DatabaseSession:
        """Opens what one orchestrator process works with."""
        return DatabaseSession(self)

    def snapshot(self) -> None:
        """Makes a backup."""
        state = copy.copy(self.snapshot_of_checker())
        self._snapshots.append((self.loop.time(), self._memory.raw.serialize(), state))

    def restore(self) -> bool:
        """Puts back a backup; tells whether there was one."""
        if not self._snapshots:
            return False
        _, data, state = self._snapshots[self.rng.randrange(len(self._snapshots))]
        self._fill(data)
        self.age += 1
        self.restore_checker(state)
        return True

    def content(self) -> bytes:
        """Returns every byte that is stored."""
        return self._memory.raw.serialize()

    def execute(self, statement: str, *values: Any) -> list[Any]:
        """Does what an operator does by hand."""
        return self._memory.raw.execute(statement, values).fetchall()

    def _fill(self, content: bytes) -> None:
        self._memory.fill(content)
        # What the product's SQL asks for its own time: days in the julian calendar.
        self._memory.raw.create_function("julianday", 1, self._julian_day)

    def _julian_day(self, _: object) -> float:
        return 2440587.5 + self._clock() / 86400.0

    def write(
        self, calls: Sequence[Call], lengths: dict[Any, int], age: int, by: object = None
    ) -> list[Outcome] | Exception:
        """Runs one transaction."""
        if self.down or age != self.age:
            return StoreUnavailable("the database does not answer: simulated")
        if self.rng.random() < self.failing:
            return StoreUnavailable("the transaction was rolled back: simulated")
        connection = self._memory.connection
        try:
            outcomes = commit_batch(connection, calls, lengths)
        except Exception as exc:  # noqa: BLE001 - it belongs to the caller
            return exc
        finally:
            connection.rollback()
        self.on_commit(calls, outcomes, getattr(by, "number", 0))
        self._hint(calls, outcomes, by)
        if self.rng.random() < self.losing_answers:
            lengths.clear()
            return StoreUnavailable("the connection was lost inside COMMIT: simulated")
        return outcomes

    def _hint(self, calls: Sequence[Call], outcomes: Sequence[Outcome], by: object) -> None:
        """Tells the others, late or not at all."""
        if not self.shared:
            return
        self.listeners = [item for item in self.listeners if item[1] and item[1].alive]
        for news in news_of(calls, outcomes):
            for session, process, heard in self.listeners:
                if session is not by and process is not None and self.rng.random() < 0.8:
                    delay = self.rng.uniform(0.0005, 0.05)
                    self.loop.later(delay, process.do, heard, news)

    def query(self, query: Callable[[Connection], Any], age: int) -> Any:
        """Runs one read; returns the value or the error."""
        if self.down or age != self.age:
            return StoreUnavailable("the database does not answer: simulated")
        connection = self._memory.connection
        try:
            return answer(query, connection)
        finally:
            connection.rollback()


class DatabaseSession:
    """One orchestrator's way to the database; see ``store.base.Database``."""

    def __init__(self, server: DatabaseServer) -> None:
        self._server = server
        server.sessions += 1
        self.number = server.sessions
        self._lengths: dict[Any, int] = {}
        self._age = server.age

    async def commit(self, calls: Sequence[Call]) -> list[Outcome]:
        """See Database."""
        found = await self._there_and_back(lambda: self._write(list(calls)))
        if isinstance(found, Exception):
            raise found
        outcomes: list[Outcome] = found
        return outcomes

    async def read(self, query: Callable[[Connection], T]) -> T:
        """See Database."""
        found: Any = await self._there_and_back(lambda: self._server.query(query, self._age))
        if isinstance(found, Exception):
            raise found
        value: T = found
        return value

    async def close(self) -> None:
        """See Database."""

    @property
    def shared(self) -> bool:
        """See Database."""
        return self._server.shared

    def listen(self, heard: Callable[[News], None]) -> None:
        """See Database; hints may come late or not at all."""
        process = PROCESS.get()
        self._server.listeners.append((self, process, heard))

    def _write(self, calls: list[Call]) -> Any:
        return self._server.write(calls, self._lengths, self._age, self)

    async def _there_and_back(self, what: Callable[[], Any]) -> Any:
        server = self._server
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def there() -> None:
            try:
                found = what()
            except Exception as exc:  # noqa: BLE001 - it belongs to the caller
                found = exc
            server.loop.later(server.rng.uniform(*server.seconds) / 2, _back, done, found)

        server.loop.later(server.rng.uniform(*server.seconds) / 2, there)
        return await done


def _back(done: asyncio.Future[Any], found: Any) -> None:
    if not done.done():
        done.set_result(found)
