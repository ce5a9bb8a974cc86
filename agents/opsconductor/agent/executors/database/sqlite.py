"""SQLite: one statement on a file of the agent's host, in a thread, ended by interrupt."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.database.work import STOP_WITHIN, failed, too_many_changed

if TYPE_CHECKING:
    from opsconductor.agent.executors.database.work import Work
    from opsconductor.tool_registry.rendering.rendered import SqlStatement

_BATCH = 500
_LOCK_WAIT = 5.0
_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")


class Sqlite:
    """Statements on SQLite files. See Backend."""

    def __init__(self) -> None:
        self._open: dict[int, sqlite3.Connection] = {}

    async def run(self, work: Work) -> int | None:
        """Carries out the statement. See Backend."""
        statement = work.sql
        path = await asyncio.to_thread(_existing, statement.database)
        try:
            connection = await asyncio.to_thread(_opened, path, work.read_only)
            self._open[id(work)] = connection
            try:
                return await _carry_out(work, statement, connection)
            finally:
                del self._open[id(work)]
                await asyncio.to_thread(connection.close)
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "") or "SQLITE_MISUSE"
            message = f"{path}: {error} ({name})"
            if name.startswith("SQLITE_READONLY"):
                raise failed("READ_ONLY", f"{message}; this step may only read") from error
            code = "LOCKED" if name in _BUSY else "SQL_ERROR"
            raise failed(code, message, retryable=name in _BUSY) from error

    async def stop(self, work: Work, running: asyncio.Future[int | None]) -> tuple[str, ...]:
        """Interrupts the statement; its transaction is rolled back. See Backend."""
        for _ in range(round(STOP_WITHIN * 10)):
            if (connection := self._open.get(id(work))) is not None:
                connection.interrupt()
            await asyncio.wait({running}, timeout=0.1)
            if running.done():
                return ()
        return (f"the statement on {work.login.database}",)

    async def close(self) -> None:
        """Keeps nothing."""


async def _carry_out(
    work: Work, statement: SqlStatement, connection: sqlite3.Connection
) -> int | None:
    if not statement.autocommit:
        await asyncio.to_thread(
            connection.execute, "BEGIN" if work.read_only else "BEGIN IMMEDIATE"
        )
    work.sent = True
    try:
        cursor = await asyncio.to_thread(connection.execute, statement.statement, statement.binds)
        work.rows.name([column[0] for column in cursor.description or ()])
        more = cursor.description is not None
        while more and (rows := await asyncio.to_thread(cursor.fetchmany, _BATCH)):
            more = await work.rows.add(rows)
        affected = cursor.rowcount if cursor.rowcount >= 0 else None
        cursor.close()
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise
    objection = too_many_changed(work, affected)
    if connection.in_transaction:
        keeps = not (work.read_only or statement.dry_run or objection)
        await asyncio.to_thread(connection.execute, "COMMIT" if keeps else "ROLLBACK")
    if objection is not None:
        raise objection
    return affected


def _existing(database: str) -> Path:
    path = Path(database)
    try:
        if path.is_absolute() and stat.S_ISREG(path.stat().st_mode):
            return path
        problem = "it is no absolute path of a file"
    except OSError as error:
        problem = error.strerror or str(error)
    message = f"cannot open {database or '(no file named)'} on the agent's host: {problem}"
    raise Refused(Outcome.refused("DATABASE_UNKNOWN", message))


def _opened(path: Path, read_only: bool) -> sqlite3.Connection:  # noqa: FBT001 - called by a thread
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=_LOCK_WAIT,
        check_same_thread=False,
    )
    connection.text_factory = _text
    if read_only:
        connection.execute("PRAGMA query_only = on")
    connection.set_authorizer(_authorize)
    return connection


def _authorize(action: int, *_names: Any) -> int:
    # Another file could be opened, or made, through these.
    refused = action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
