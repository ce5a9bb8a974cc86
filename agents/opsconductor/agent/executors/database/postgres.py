"""PostgreSQL: one statement in a transaction of its own, values bound by the server."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.base import Outcome
from opsconductor.agent.executors.database.binds import numbered, postgres_value
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
    import asyncpg

    from opsconductor.agent.executors.database.work import DatabaseLogin, Work
    from opsconductor.tool_registry.rendering.rendered import SqlStatement

_BATCH = 500
# The server's own limit only counts when the agent is gone and cannot end the statement itself.
_SERVER_LATER = 10.0


class Postgres:
    """Statements on PostgreSQL servers. See Backend."""

    def __init__(self, *, idle: float) -> None:
        self._connections: KeptConnections[DatabaseLogin, asyncpg.Connection] = KeptConnections(
            _connect, _close, _is_alive, idle=idle
        )

    async def run(self, work: Work) -> int | None:
        """Carries out the statement. See Backend."""
        import asyncpg

        try:
            async with self._connections.lent(work.login) as connection:
                work.session = connection.get_server_pid()
                try:
                    return await _carry_out(work, connection)
                except asyncpg.PostgresError as error:
                    if connection.is_closed():
                        raise
                    ended = _told(work, error)
        except asyncpg.PostgresError as error:
            raise _told(work, error) from error
        except asyncpg.InterfaceError as error:
            if work.sent and "connection" in str(error):
                raise connection_failed(work, error) from error
            raise failed("SQL_INVALID", f"{work.login}: {error}") from error
        except (OSError, EOFError) as error:
            raise connection_failed(work, _reason(error)) from error
        raise ended

    async def stop(self, work: Work, running: asyncio.Future[int | None]) -> tuple[str, ...]:
        """Cancels the statement over a second connection. See Backend."""
        try:
            async with asyncio.timeout(STOP_WITHIN + CONNECT_TIMEOUT):
                async with self._connections.lent(work.login) as other:
                    await other.execute(f"SELECT pg_cancel_backend({work.session:d})")
                    await asyncio.wait({running}, timeout=STOP_WITHIN)
                    if running.done():
                        return ()
                    await other.execute(f"SELECT pg_terminate_backend({work.session:d})")
                    await asyncio.wait({running}, timeout=STOP_WITHIN)
        except Exception as error:  # noqa: BLE001 - whatever kept it from being asked is told
            return (f"unknown: {work.login} could not be asked to cancel ({_reason(error)})",)
        return () if running.done() else (f"session {work.session} of {work.login}",)

    async def close(self) -> None:
        """Closes kept connections."""
        await self._connections.close()


async def _carry_out(work: Work, connection: asyncpg.Connection) -> int | None:
    statement = work.sql
    limit = round((work.seconds + _SERVER_LATER) * 1000)
    if statement.autocommit:
        await connection.execute(f"SET statement_timeout = {limit:d}")
        return await _execute(work, statement, connection)
    await connection.execute("BEGIN READ ONLY" if work.read_only else "BEGIN")
    try:
        await connection.execute(f"SET LOCAL statement_timeout = {limit:d}")
        affected = await _execute(work, statement, connection)
    except BaseException:
        if not connection.is_closed():
            with contextlib.suppress(Exception):
                await connection.execute("ROLLBACK")
        raise
    objection = too_many_changed(work, affected)
    keeps = not (work.read_only or statement.dry_run or objection)
    await connection.execute("COMMIT" if keeps else "ROLLBACK")
    if objection is not None:
        raise objection
    return affected


async def _execute(
    work: Work, statement: SqlStatement, connection: asyncpg.Connection
) -> int | None:
    prepared = await connection.prepare(numbered(statement.statement))
    wanted = [parameter.name for parameter in prepared.get_parameters()]
    if len(wanted) != len(statement.binds):
        message = f"the statement has {len(wanted)} places for {len(statement.binds)} values"
        raise failed("BIND_COUNT", message)
    binds = [
        postgres_value(value, kind, place)
        for place, (value, kind) in enumerate(zip(statement.binds, wanted, strict=True), start=1)
    ]
    columns = [attribute.name for attribute in prepared.get_attributes()]
    work.rows.name(columns)
    work.sent = True
    if not columns or statement.autocommit:
        await work.rows.add([tuple(row) for row in await prepared.fetch(*binds)])
    else:
        cursor = await prepared.cursor(*binds)
        more = True
        while more and (rows := await cursor.fetch(_BATCH)):
            more = await work.rows.add([tuple(row) for row in rows])
    return _affected(prepared.get_statusmsg())


def _affected(status: str | None) -> int | None:
    """Returns the rows a statement changed, from the server's ``UPDATE 3`` or ``INSERT 0 3``."""
    found = re.fullmatch(r"(?:INSERT \d+|UPDATE|DELETE|MERGE|COPY) (\d+)", status or "")
    return int(found[1]) if found else None


def _told(work: Work, error: asyncpg.PostgresError) -> CallEnded:
    import asyncpg

    said = f"{work.login}: {error}"
    match error:
        case asyncpg.AdminShutdownError() | asyncpg.CrashShutdownError():
            return connection_failed(work, error)
        case asyncpg.CannotConnectNowError():
            return CallEnded(Outcome.unreachable("STARTING", said))
        case asyncpg.TooManyConnectionsError() | asyncpg.ConfigurationLimitExceededError():
            return CallEnded(Outcome.throttled("TOO_MANY_CONNECTIONS", said))
        case asyncpg.InvalidAuthorizationSpecificationError():
            user = work.login.credential.username
            message = f"{work.login} refused the login of user {user}: {error}"
            return CallEnded(Outcome.refused("AUTH_FAILED", message))
        case asyncpg.InvalidCatalogNameError():
            return CallEnded(Outcome.refused("DATABASE_UNKNOWN", said))
        case asyncpg.ReadOnlySQLTransactionError():
            return failed("READ_ONLY", f"{said}; this step may only read")
        case asyncpg.DeadlockDetectedError() | asyncpg.SerializationError():
            return failed("CONFLICT", said, retryable=True)
        case asyncpg.LockNotAvailableError():
            return failed("LOCKED", said, retryable=True)
        case asyncpg.PostgresConnectionError():
            return connection_failed(work, error)
    return failed("SQL_ERROR", f"{said} (SQLSTATE {error.sqlstate})")


async def _connect(login: DatabaseLogin) -> Any:
    import asyncpg

    credential = login.credential
    return await asyncpg.connect(
        host=login.address,
        port=login.port,
        user=credential.username or "postgres",
        password=credential.password or "",
        database=login.database or "postgres",
        timeout=CONNECT_TIMEOUT,
        ssl=login.tls or False,
        statement_cache_size=0,
        server_settings={"application_name": "opsconductor", "client_min_messages": "error"},
    )


async def _close(connection: asyncpg.Connection) -> None:
    connection.terminate()


async def _is_alive(connection: asyncpg.Connection) -> bool:
    if connection.is_closed():
        return False
    try:
        async with asyncio.timeout(2):
            await connection.execute("")
    except Exception:  # noqa: BLE001 - a connection that cannot do this is of no use
        return False
    return True


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    text = str(error) or type(error).__name__
    if isinstance(error, ConnectionError) and "SSL" in text:
        return f"{text} (the credential may say tls: off)"
    return text
