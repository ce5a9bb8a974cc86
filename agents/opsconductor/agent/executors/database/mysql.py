"""MySQL and MariaDB: one prepared statement in a transaction of its own, values in binary form."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.base import Outcome, Refused, StepFailure
from opsconductor.agent.executors.database.work import (
    CONNECT_TIMEOUT,
    STOP_WITHIN,
    CallEnded,
    connection_failed,
    failed,
    too_many_changed,
)
from opsconductor.agent.executors.kept_connections import KeptConnections

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opsconductor.agent.executors.database.work import DatabaseLogin, Work
    from opsconductor.tool_registry.rendering.rendered import SqlStatement

_SERVER_LATER = 10.0
_LEADING = re.compile(r"(?:\s|\(|/\*.*?\*/|--[^\n]*\n|#[^\n]*\n)*([A-Za-z]+)", re.DOTALL)
_CAN_BE_ROLLED_BACK = frozenset(
    ["SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES", "TABLE", "SHOW"]
)
_UNPREPARABLE = 1295
_NOT_ROLLED_BACK = 1196
_AUTH = frozenset({1044, 1045, 1698, 1251})
_CONFLICT = frozenset({1205, 1213})
_TOO_MANY = frozenset({1040, 1203, 1226})
_READ_ONLY = frozenset({1792, 1290, 1836})
_GONE = frozenset({1053, 1927, 2006, 2013, 2055, 4031})
_INTERRUPTED = frozenset({1317, 1969, 3024})
_UNREACHABLE = frozenset({2002, 2003, 2005})
_UNKNOWN = frozenset({1049})


class MySql:
    """Statements on MySQL and MariaDB servers. See Backend."""

    def __init__(self, *, idle: float) -> None:
        self._connections: KeptConnections[DatabaseLogin, Any] = KeptConnections(
            _connect, _close, _is_alive, idle=idle
        )

    async def run(self, work: Work) -> int | None:
        """Carries out the statement. See Backend."""
        from asyncmy.errors import Error

        try:
            async with self._connections.lent(work.login) as connection:
                work.session = connection.thread_id()
                try:
                    return await _carry_out(work, connection)
                except Error as error:
                    ended = _told(work, error)
                    if ended.outcome.state != "failed" or not connection.connected:
                        raise ended from error
        except Error as error:
            raise _told(work, error) from error
        except (OSError, EOFError, RuntimeError) as error:
            raise connection_failed(work, error) from error
        raise ended

    async def stop(self, work: Work, running: asyncio.Future[int | None]) -> tuple[str, ...]:
        """Kills the query over a second connection. See Backend."""
        try:
            async with asyncio.timeout(STOP_WITHIN + CONNECT_TIMEOUT):
                async with self._connections.lent(work.login) as other:
                    for what in ("QUERY", "CONNECTION"):
                        await _query(other, f"KILL {what} {work.session:d}")
                        await asyncio.wait({running}, timeout=STOP_WITHIN)
                        if running.done():
                            return ()
        except Exception as error:  # noqa: BLE001 - whatever kept it from being asked is told
            text = str(error) or type(error).__name__
            return (f"unknown: {work.login} could not be asked to kill the query ({text})",)
        return (f"session {work.session} of {work.login}",)

    async def close(self) -> None:
        """Closes kept connections."""
        await self._connections.close()


async def _carry_out(work: Work, connection: Any) -> int | None:
    statement = work.sql
    leading = _LEADING.match(statement.statement)
    word = leading[1].upper() if leading else ""
    if statement.dry_run and word not in _CAN_BE_ROLLED_BACK:
        message = f"{word or 'this statement'} ends the transaction, so it has no dry run here"
        raise Refused(Outcome.refused("DRY_RUN_IMPOSSIBLE", message))
    await _set_limits(work, connection)
    if statement.autocommit:
        return await _execute(work, statement, connection)
    await _query(connection, "START TRANSACTION")
    try:
        affected = await _execute(work, statement, connection)
    except BaseException:
        if connection.connected:
            with contextlib.suppress(Exception):
                await _query(connection, "ROLLBACK")
        raise
    objection = too_many_changed(work, affected)
    if work.read_only or statement.dry_run or objection:
        await _query(connection, "ROLLBACK")
        await _require_undone(work, connection)
        if objection is not None:
            raise objection
    else:
        await _query(connection, "COMMIT")
    return affected


async def _set_limits(work: Work, connection: Any) -> None:
    seconds = round(work.seconds + _SERVER_LATER)
    if "MariaDB" in connection.get_server_info():
        await _query(connection, f"SET SESSION max_statement_time = {seconds:d}")
    else:
        await _query(connection, f"SET SESSION max_execution_time = {seconds * 1000:d}")
    await _query(connection, f"SET SESSION sql_select_limit = {work.rows.wanted:d}")
    access = "READ ONLY" if work.read_only else "READ WRITE"
    await _query(connection, f"SET SESSION TRANSACTION {access}")


async def _execute(work: Work, statement: SqlStatement, connection: Any) -> int | None:
    from asyncmy.errors import Error

    try:
        prepared = await connection.prepare(statement.statement)
    except Error as error:
        if error.args[0] != _UNPREPARABLE or statement.binds:
            raise
        # The server has parsed it as one statement, only not as one it prepares.
        work.sent = True
        async with connection.cursor() as cursor:
            await cursor.execute(statement.statement)
            rows = await cursor.fetchall() if cursor.description else ()
            return await _result(work, cursor.description, rows, cursor.rowcount)
    try:
        if prepared.parameter_count != len(statement.binds):
            places, values = prepared.parameter_count, len(statement.binds)
            raise failed("BIND_COUNT", f"the statement has {places} places for {values} values")
        work.sent = True
        found = await prepared.execute(statement.binds)
        return await _result(work, found.description, found.rows, found.affected_rows)
    finally:
        if connection.connected:
            with contextlib.suppress(Exception):
                await prepared.close()


async def _result(work: Work, description: Any, rows: Any, affected: int) -> int | None:
    if not description:
        return int(affected)
    work.rows.name([column[0] for column in description])
    await work.rows.add(rows or ())
    return None


async def _query(connection: Any, text: str) -> tuple[tuple[Any, ...], ...]:
    async with connection.cursor() as cursor:
        await cursor.execute(text)
        return tuple(await cursor.fetchall()) if cursor.description else ()


async def _require_undone(work: Work, connection: Any) -> None:
    """Tables without transactions keep what was done to them, and only a warning says so."""
    warnings = await _query(connection, "SHOW WARNINGS")
    if any(int(code) == _NOT_ROLLED_BACK for _, code, *_ in warnings):
        message = f"a table of {work.login} has no transactions, so its rows are changed for good"
        error = StepFailure("NOT_ROLLED_BACK", message, "rollback_required")
        raise CallEnded(Outcome("failed", effects="done", error=error))


def _told(work: Work, error: Any) -> CallEnded:
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    text = str(error.args[1] if len(error.args) > 1 else error)
    said = f"{work.login}: {text} (error {code})"
    simple: Mapping[frozenset[int], Callable[[], CallEnded]] = {
        _AUTH: lambda: CallEnded(
            Outcome.refused(
                "AUTH_FAILED",
                f"{work.login} refused the login of user {work.login.credential.username}: {text}",
            )
        ),
        _CONFLICT: lambda: failed("CONFLICT", said, retryable=True),
        _TOO_MANY: lambda: CallEnded(Outcome.throttled("TOO_MANY_CONNECTIONS", said)),
        _READ_ONLY: lambda: failed("READ_ONLY", f"{said}; this step may only read"),
        _GONE | _UNREACHABLE: lambda: connection_failed(work, text),
        _INTERRUPTED: lambda: failed("INTERRUPTED", said, retryable=True),
        _UNKNOWN: lambda: CallEnded(Outcome.refused("DATABASE_UNKNOWN", said)),
    }
    for codes, make in simple.items():
        if code in codes:
            return make()
    return failed("SQL_ERROR", said)


async def _connect(login: DatabaseLogin) -> Any:
    from asyncmy import connect as open_connection

    credential = login.credential
    async with asyncio.timeout(CONNECT_TIMEOUT):
        return await open_connection(
            host=login.address,
            port=login.port,
            user=credential.username or "root",
            password=credential.password,
            database=login.database or None,
            connect_timeout=CONNECT_TIMEOUT,
            charset="utf8mb4",
            local_infile=False,
            autocommit=True,
            ssl=login.tls,
        )


async def _close(connection: Any) -> None:
    connection.close()


async def _is_alive(connection: Any) -> bool:
    if not connection.connected:
        return False
    try:
        async with asyncio.timeout(2):
            await connection.ping(reconnect=False)
    except Exception:  # noqa: BLE001 - a connection that cannot do this is of no use
        return False
    return True
