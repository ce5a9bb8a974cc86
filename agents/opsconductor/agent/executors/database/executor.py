"""Method "database": one statement with bound values, in a transaction where there are any."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import Outcome, Refused, StepFailure
from opsconductor.agent.executors.database.rows import Rows
from opsconductor.agent.executors.database.work import CallEnded, DatabaseLogin, Work, login_of
from opsconductor.agent.executors.waiting import boottime, wait_end
from opsconductor.tool_registry.rendering.rendered import RedisCommand, SqlStatement
from opsconductor.tool_registry.risk.structured import judge_redis

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import Call, Sink, Stop
    from opsconductor.agent.executors.credential import Credentials
    from opsconductor.agent.executors.database.work import Backend
    from opsconductor.agent.executors.registry import Collaborators

LIBRARIES = {"postgresql": "asyncpg", "mysql": "asyncmy", "redis": "redis"}
"""What each kind of server needs to be installed; SQLite comes with Python."""


def make(offered: Collaborators) -> DatabaseExecutor:
    """Returns the executor of an agent; raises Unavailable."""
    return DatabaseExecutor(offered.credentials)


class DatabaseExecutor:
    """Asks PostgreSQL, MySQL or MariaDB, SQLite and Redis; connections are kept while used.

    Rows go to standard output as JSON lines; the outcome's output is ``{columns, rows, row_count,
    truncated, rows_affected}``, for Redis ``{value, truncated}``.
    """

    method = "database"

    def __init__(self, credentials: Credentials, *, idle: timedelta = timedelta(minutes=2)) -> None:
        self._credentials = credentials
        self._idle = idle.total_seconds()
        self._backends: dict[str, Backend] = {}

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Carries out the statement. See Executor."""
        try:
            backend, work = self._work(call, sink)
        except Refused as refused:
            return refused.outcome
        if cancel.is_set():
            return Outcome.not_begun(call, "cancelled")
        running = asyncio.ensure_future(backend.run(work))
        try:
            what = await wait_end(running, cancel, boottime() + work.seconds)
            if what != "ended":
                return await _stopped(backend, work, running, what)
            return _ended(work, running)
        finally:
            running.cancel()
            with contextlib.suppress(BaseException):
                await running

    async def close(self) -> None:
        """Closes every connection."""
        backends, self._backends = list(self._backends.values()), {}
        for backend in backends:
            await backend.close()

    def _work(self, call: Call, sink: Sink) -> tuple[Backend, Work]:
        """Returns what is to be done and by whom; raises Refused."""
        statement = call.rendered
        seconds = call.timeout.total_seconds()
        if isinstance(statement, RedisCommand):
            _require_library("redis")
            _require_read(call, statement)
            login = login_of(call, "redis", str(statement.database), self._credentials)
            rows = Rows(sink, limit=0, max_bytes=call.max_output_bytes)
            work = Work(call, statement, login, rows, call.read_only, seconds)
            return self._backend("redis"), work
        if not isinstance(statement, SqlStatement):
            kind = type(statement).__name__
            message = f"the database executor cannot carry out a {kind}"
            raise Refused(Outcome.refused("METHOD_MISMATCH", message))
        _require_sense(statement)
        if statement.dialect == "sqlite":
            login = _here(call, statement)
        else:
            _require_library(statement.dialect)
            login = login_of(call, statement.dialect, statement.database, self._credentials)
        rows = Rows(sink, limit=statement.row_limit, max_bytes=call.max_output_bytes)
        read_only = call.read_only or statement.read_only
        return (
            self._backend(statement.dialect),
            Work(call, statement, login, rows, read_only, seconds),
        )

    def _backend(self, kind: str) -> Backend:
        if kind not in self._backends:
            self._backends[kind] = _make(kind, self._idle)
        return self._backends[kind]


def _make(kind: str, idle: float) -> Backend:
    match kind:
        case "postgresql":
            from opsconductor.agent.executors.database.postgres import Postgres

            return Postgres(idle=idle)
        case "mysql":
            from opsconductor.agent.executors.database.mysql import MySql

            return MySql(idle=idle)
        case "sqlite":
            from opsconductor.agent.executors.database.sqlite import Sqlite

            return Sqlite()
    from opsconductor.agent.executors.database.redis import RedisServer

    return RedisServer(idle=idle)


def _ended(work: Work, running: asyncio.Future[int | None]) -> Outcome:
    try:
        affected = running.result()
    except (CallEnded, Refused) as ended:
        return ended.outcome
    if isinstance(work.statement, RedisCommand):
        output = {"value": work.rows.value, "truncated": work.rows.truncated}
        return Outcome.ended(work.call, None, output)
    dry = work.statement.dry_run
    output = work.rows.output(affected, dry_run=dry)
    if dry or work.read_only:
        return Outcome("completed", output=output)
    return Outcome.ended(work.call, None, output)


async def _stopped(
    backend: Backend, work: Work, running: asyncio.Future[int | None], why: Stop
) -> Outcome:
    if not work.sent:
        return Outcome.not_begun(work.call, why)
    survivors = await backend.stop(work, running)
    if running.done() and not running.cancelled():
        error = running.exception()
        if error is None:
            return _ended(work, running)
        if survivors and isinstance(error, CallEnded) and error.outcome.state == "unknown":
            return error.outcome
    outcome = Outcome.stopped(work.call, why, exit_code=None, survivors=survivors)
    if survivors or not work.read_only:
        return outcome
    return Outcome(outcome.state, effects="none", error=outcome.error)


def _require_library(kind: str) -> None:
    library = LIBRARIES[kind]
    if find_spec(library) is None:
        message = f"{kind} needs the Python library {library} on the agent: pip install {library}"
        raise Refused(
            Outcome("failed", error=StepFailure("LIBRARY_MISSING", message, "non_retryable"))
        )


def _require_read(call: Call, command: RedisCommand) -> None:
    """Redis has no transactions that only read, so the command itself must be one that does."""
    judged = judge_redis(list(command.args))
    if call.read_only and judged.risk_class != "read_only":
        message = f"this step may only read, but {judged.reason}"
        raise Refused(Outcome.refused("READ_ONLY", message))


def _require_sense(statement: SqlStatement) -> None:
    if not statement.statement.strip() or "\0" in statement.statement:
        message = "the statement is empty or holds a NUL character"
        raise Refused(Outcome.refused("STATEMENT_INVALID", message))
    if statement.dry_run and statement.autocommit:
        message = "a statement outside a transaction cannot be rolled back, so it has no dry run"
        raise Refused(Outcome.refused("DRY_RUN_IMPOSSIBLE", message))
    if any(isinstance(value, str) and "\0" in value for value in statement.binds):
        message = "a value holds a NUL character, which no database text can"
        raise Refused(Outcome.refused("NUL_BYTE", message))


def _here(call: Call, statement: SqlStatement) -> DatabaseLogin:
    from opsconductor.agent.executors.credential import Credential

    target = call.target or {}
    if target.get("connection") not in (None, "", "local"):
        message = f"a SQLite file is opened on the agent's own host, not on {call.where}"
        raise Refused(Outcome.refused("TARGET_INVALID", message))
    return DatabaseLogin("sqlite", "the agent's host", "", 0, statement.database, Credential())
