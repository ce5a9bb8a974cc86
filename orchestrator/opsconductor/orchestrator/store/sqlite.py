"""The embedded database: one file, one process, one writer thread and readers beside it."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from opsconductor.orchestrator.store.base import CommitUnknown
from opsconductor.orchestrator.store.batch import commit_batch
from opsconductor.orchestrator.store.faults import answer, brief
from opsconductor.orchestrator.store.lock import FileLock
from opsconductor.orchestrator.store.migrate import upgrade
from opsconductor.rpc.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Connection

    from opsconductor.orchestrator.store.base import Call, Outcome, T
    from opsconductor.orchestrator.store.batch import Lengths
    from opsconductor.orchestrator.store.news import News

_READERS = 4
_BUSY_TIMEOUT = 5000  # milliseconds
_PRAGMAS = (
    f"PRAGMA busy_timeout = {_BUSY_TIMEOUT}",
    "PRAGMA journal_mode = WAL",
    # With NORMAL a power loss takes back commits that were acknowledged.
    "PRAGMA synchronous = FULL",
    "PRAGMA temp_store = MEMORY",
)


class SqliteDatabase:
    """A SQLite file in WAL mode; see ``Database``."""

    def __init__(self, path: Path) -> None:
        """Takes the file's lock; raises StoreLocked when another process holds it."""
        self._path = path.absolute()
        self._prepare_file()
        self._lock = FileLock(self._path)
        self._lengths: Lengths = {}
        self._writer = _engine(self._path, 1)
        self._readers = _engine(self._path, _READERS)
        event.listen(self._writer, "begin", _begin_immediate)
        event.listen(self._readers, "connect", _only_read)
        self._writer_thread = ThreadPoolExecutor(1, "store-writer")
        self._reader_threads = ThreadPoolExecutor(_READERS, "store-reader")

    @classmethod
    async def open(cls, path: Path, now: datetime) -> SqliteDatabase:
        """Opens or creates the file and brings its schema up to date."""
        database = cls(path)
        try:
            await database._run(database._writer_thread, database._upgrade, now)
        except BaseException:
            await database.close()
            raise
        return database

    async def commit(self, calls: Sequence[Call]) -> list[Outcome]:
        """See ``Database.commit``."""
        return await self._run(self._writer_thread, self._commit, calls)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """See ``Database.read``."""
        return await self._run(self._reader_threads, self._read, query)

    async def close(self) -> None:
        """Ends the threads, closes the file and gives its lock back."""
        await asyncio.to_thread(self._close)

    @property
    def shared(self) -> bool:
        """False: the file's lock lets one process in."""
        return False

    def listen(self, heard: Callable[[News], None]) -> None:
        """Never calls back: there is nobody else."""

    async def _run(
        self, threads: ThreadPoolExecutor, function: Callable[..., T], *arguments: object
    ) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)
        except CommitUnknown as exc:
            raise StoreUnavailable(f"{self._path} took no write: {brief(exc.__cause__)}") from exc
        except SQLAlchemyError as exc:
            raise StoreUnavailable(f"{self._path} does not answer: {brief(exc)}") from exc

    def _upgrade(self, now: datetime) -> None:
        with self._writer.connect() as connection:
            upgrade(connection, now)

    def _commit(self, calls: Sequence[Call]) -> list[Outcome]:
        with self._writer.connect() as connection:
            return commit_batch(connection, calls, self._lengths)

    def _read(self, query: Callable[[Connection], T]) -> T:
        with self._readers.connect() as connection:
            return answer(query, connection)

    def _close(self) -> None:
        for threads in (self._reader_threads, self._writer_thread):
            threads.shutdown()
        for engine in (self._readers, self._writer):
            engine.dispose()
        self._lock.release()

    def _prepare_file(self) -> None:
        """Makes the file readable by its owner only; SQLite gives its side files the same mode."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as exc:
            raise StoreUnavailable(f"cannot open {self._path}: {exc.strerror}") from exc


def _engine(path: Path, connections: int) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        pool_size=connections,
        max_overflow=0,
        connect_args={"check_same_thread": False},
        hide_parameters=True,  # they may be secret, and errors are shown
    )
    event.listen(engine, "connect", _configure)
    return engine


def _configure(connection: Any, _record: object) -> None:
    # The driver's own transactions begin late and end before schema changes; ours are explicit.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _only_read(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA query_only = ON")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
