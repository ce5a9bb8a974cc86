"""SSH connections kept between calls: shared up to a number of channels, closed when idle."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.ssh_carrier import REMOTE_COMMAND
from opsconductor.agent.executors.ssh_connection import Login, connect

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    import asyncssh

    from opsconductor.agent.executors.ssh_session import RemoteShell

# OpenSSH allows ten sessions a connection (MaxSessions); the rest is kept for ending commands.
_CHANNELS = 7
# A pooled connection may have died silently; a live one opens a channel much faster than this.
_OPEN_TIMEOUT = 5.0


class Pooled:
    """One connection and how many calls use it."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self.connection = connection
        self.users = 0
        self.fresh = True
        self.expiry: asyncio.TimerHandle | None = None


class Lease:
    """A remote shell and its share of a connection."""

    def __init__(self, shell: RemoteShell, pool: SshPool, login: Login, pooled: Pooled) -> None:
        self.shell = shell
        self._release = functools.partial(pool.release, login, pooled)

    def release(self) -> None:
        """Closes the shell's channel and gives the share back."""
        self.shell.close()
        self._release()


class SshPool:
    """All SSH connections of an agent."""

    def __init__(
        self, *, known_hosts: Path | None, connect_timeout: timedelta, idle: timedelta
    ) -> None:
        self._known_hosts = known_hosts
        self._timeout = connect_timeout.total_seconds()
        self._idle = idle.total_seconds()
        self._pooled: dict[Login, list[Pooled]] = {}
        self._connecting: dict[Login, asyncio.Lock] = {}

    async def lease(self, login: Login, *, urgent: bool = False) -> Lease:
        """Returns a remote shell that waits for its script; raises Refused when there is none.

        A connection that turns out to be dead before the shell stands is replaced: nothing was sent
        by then. ``urgent`` shells take the channels kept free on each connection.
        """
        while True:
            pooled = await self._reserve(login, urgent=urgent)
            was_fresh, pooled.fresh = pooled.fresh, False
            try:
                return Lease(await self._open(pooled, was_fresh), self, login, pooled)
            except _broken() as error:
                self.discard(login, pooled)
                if was_fresh:
                    message = f"{login} took the login but no command: {error or 'no answer'}"
                    raise Refused(Outcome.unreachable("CHANNEL_REFUSED", message)) from error
            except BaseException:
                self.release(login, pooled)
                raise

    async def close(self) -> None:
        """Closes every connection."""
        everything = [entry for entries in self._pooled.values() for entry in entries]
        self._pooled.clear()
        for entry in everything:
            if entry.expiry is not None:
                entry.expiry.cancel()
            entry.connection.close()
        for entry in everything:
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                async with asyncio.timeout(1):
                    await entry.connection.wait_closed()

    async def _open(self, pooled: Pooled, was_fresh: bool) -> RemoteShell:  # noqa: FBT001
        from opsconductor.agent.executors.ssh_session import RemoteShell

        async with asyncio.timeout(self._timeout if was_fresh else _OPEN_TIMEOUT):
            _, shell = await pooled.connection.create_session(
                RemoteShell, REMOTE_COMMAND, encoding=None, request_pty=False
            )
        return shell

    async def _reserve(self, login: Login, *, urgent: bool) -> Pooled:
        # One login at a time for each target: simultaneous steps share what the first one makes.
        async with self._connecting.setdefault(login, asyncio.Lock()):
            pooled = self._free(login, urgent=urgent)
            if pooled is None:
                pooled = Pooled(await connect(login, self._known_hosts, self._timeout))
                self._pooled.setdefault(login, []).append(pooled)
        pooled.users += 1
        if pooled.expiry is not None:
            pooled.expiry.cancel()
            pooled.expiry = None
        return pooled

    def _free(self, login: Login, *, urgent: bool) -> Pooled | None:
        entries = self._pooled.get(login, [])
        entries[:] = [entry for entry in entries if not entry.connection.is_closed()]
        return next((entry for entry in entries if urgent or entry.users < _CHANNELS), None)

    def release(self, login: Login, pooled: Pooled) -> None:
        """Takes a share back; a connection without users is closed after the idle time."""
        pooled.users -= 1
        if pooled.users == 0 and pooled in self._pooled.get(login, []):
            loop = asyncio.get_running_loop()
            pooled.expiry = loop.call_later(self._idle, self.discard, login, pooled)

    def discard(self, login: Login, pooled: Pooled) -> None:
        """Closes a connection that shall not be used again."""
        entries = self._pooled.get(login, [])
        if pooled in entries:
            entries.remove(pooled)
        if not entries:
            self._pooled.pop(login, None)
        pooled.connection.close()


def _broken() -> tuple[type[BaseException], ...]:
    import asyncssh

    return (OSError, asyncssh.Error)
