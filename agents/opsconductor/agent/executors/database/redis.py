"""Redis: one command, sent once; a blocking one is ended by killing its connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.database.work import (
    CONNECT_TIMEOUT,
    STOP_WITHIN,
    CallEnded,
    connection_failed,
    failed,
)
from opsconductor.agent.executors.kept_connections import KeptConnections

if TYPE_CHECKING:
    from redis.exceptions import RedisError

    from opsconductor.agent.executors.database.work import DatabaseLogin, Work

# These change what a connection is, or answer for ever: no request with one answer.
_NO_REQUEST = frozenset(
    [
        *("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "MONITOR"),
        *("SYNC", "PSYNC", "AUTH", "HELLO", "RESET", "QUIT", "MULTI", "EXEC", "DISCARD"),
        *("WATCH", "UNWATCH", "SELECT", "READONLY", "READWRITE"),
    ]
)


class RedisServer:
    """Commands on Redis servers. See Backend."""

    def __init__(self, *, idle: float) -> None:
        self._connections: KeptConnections[DatabaseLogin, Any] = KeptConnections(
            _connect, _close, _is_alive, idle=idle
        )

    async def run(self, work: Work) -> int | None:
        """Carries out the command. See Backend."""
        from redis.exceptions import RedisError

        command = work.redis
        if (name := command.args[0].upper()) in _NO_REQUEST:
            message = f"{name} is no request with one answer, so it cannot be a step"
            raise Refused(Outcome.refused("COMMAND_UNSUPPORTED", message))
        try:
            async with self._connections.lent(work.login) as client:
                work.session = int(await client.execute_command("CLIENT", "ID"))
                work.sent = True
                # The protocol gives each argument with its length, so none can be another command.
                answer = await client.execute_command(*(arg.encode() for arg in command.args))
                await work.rows.answer(answer)
        except RedisError as error:
            raise _told(work, error) from error
        except (OSError, EOFError) as error:
            raise connection_failed(work, error) from error
        return None

    async def stop(self, work: Work, running: asyncio.Future[int | None]) -> tuple[str, ...]:
        """Kills the command's connection from a second one, and looks. See Backend."""
        try:
            async with asyncio.timeout(STOP_WITHIN + CONNECT_TIMEOUT):
                async with self._connections.lent(work.login) as other:
                    await other.execute_command("CLIENT", "KILL", "ID", str(work.session))
                    await asyncio.wait({running}, timeout=STOP_WITHIN)
                    left = await other.execute_command("CLIENT", "LIST", "ID", str(work.session))
        except Exception as error:  # noqa: BLE001 - whatever kept it from being asked is told
            text = str(error) or type(error).__name__
            return (f"unknown: {work.login} could not be asked to end the command ({text})",)
        return (f"session {work.session} of {work.login}",) if left else ()

    async def close(self) -> None:
        """Closes kept connections."""
        await self._connections.close()


def _told(work: Work, error: RedisError) -> CallEnded:
    from redis import exceptions

    text = str(error)
    if isinstance(error, exceptions.AuthenticationError) or text.startswith("NOAUTH"):
        message = f"{work.login} refused the login: {text}"
        return CallEnded(Outcome.refused("AUTH_FAILED", message))
    if isinstance(error, exceptions.MaxConnectionsError) or "max number of clients" in text:
        return CallEnded(Outcome.throttled("TOO_MANY_CONNECTIONS", f"{work.login}: {text}"))
    if isinstance(error, exceptions.BusyLoadingError):
        return CallEnded(Outcome.unreachable("STARTING", f"{work.login}: {text}"))
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError):
        return connection_failed(work, text)
    retryable = text.startswith(("BUSY", "TRYAGAIN", "CLUSTERDOWN"))
    return failed("REDIS_ERROR", f"{work.login}: {text}", retryable=retryable)


async def _connect(login: DatabaseLogin) -> Any:
    from redis.asyncio import Redis
    from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options: dict[str, Any] = {
        "host": login.address,
        "port": login.port,
        "db": int(login.database or 0),
        "username": login.credential.username or None,
        "password": login.credential.password or None,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        # A command that was sent twice could have been carried out twice.
        "retry": Retry(NoBackoff(), 0),
        "client_name": "opsconductor",
        "max_connections": 1,
    }
    kind = Connection if login.tls_mode == "off" else SSLConnection
    if login.tls_mode != "off":
        verified = login.tls_mode == "verify"
        options["ssl_cert_reqs"] = "required" if verified else "none"
        options["ssl_check_hostname"] = verified
        options["ssl_ca_certs"] = login.credential.setting("ca_file") or None
    pool = ConnectionPool(connection_class=kind, **options)
    return Redis(connection_pool=pool)


async def _close(client: Any) -> None:
    await client.aclose()
    await client.connection_pool.disconnect()


async def _is_alive(client: Any) -> bool:
    try:
        async with asyncio.timeout(2):
            return bool(await client.ping())
    except Exception:  # noqa: BLE001 - a connection that cannot do this is of no use
        return False
