"""SSH connections kept between calls: shared up to a number of channels, closed when idle."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.ssh.connection import Connection, Login, connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from pathlib import Path

    from opsconductor.agent.executors.ssh.session import RemoteShell

# OpenSSH allows ten sessions a connection (MaxSessions); the rest is kept for ending commands.
_CHANNELS = 7
# A pooled connection may have died silently; a live one opens a channel much faster than this.
_OPEN_TIMEOUT = 5.0


class Pooled:
    """One connection and how many calls use it."""

    def __init__(self, connected: Connection, users: int) -> None:
        self.connected = connected
        self.connection = connected.ssh
        self.users = users
        self.proven = False
        """Whether a channel was asked for before: only then can it have died since."""
        self.expiry: asyncio.TimerHandle | None = None


class Lease:
    """A remote shell and its share of a connection."""

    def __init__(self, shell: RemoteShell, give_back: Callable[[], None]) -> None:
        self.shell = shell
        self._give_back = give_back

    def release(self) -> None:
        """Closes the shell's channel and gives the share back."""
        self.shell.close()
        self._give_back()


class SshPool:
    """All SSH connections of an agent."""

    def __init__(
        self, *, known_hosts: Path | None, connect_timeout: timedelta, idle: timedelta
    ) -> None:
        self._known_hosts = known_hosts
        self._timeout = connect_timeout.total_seconds()
        self._idle = idle.total_seconds()
        self._pooled: dict[Login, list[Pooled]] = {}
        self._connecting: dict[Login, asyncio.Task[None]] = {}

    async def lease(self, login: Login, *, urgent: bool = False) -> Lease:
        """Returns a remote shell that waits for its script; raises Refused when there is none.

        A connection that turns out to be dead before the shell stands is replaced once: nothing was
        sent by then. ``urgent`` shells take the channels kept free on each connection.
        """
        replaced = False
        while True:
            pooled = await self._reserve(login, urgent=urgent)
            proven, pooled.proven = pooled.proven, True
            give_back = functools.partial(self._release, login, pooled)
            try:
                timeout = _OPEN_TIMEOUT if proven else self._timeout
                return Lease(await self._open(login, pooled, timeout), give_back)
            except _broken() as error:
                self._retire(login, pooled)
                give_back()
                if replaced or not proven:
                    message = f"{login} took the login but no command: {error or 'no answer'}"
                    raise Refused(Outcome.unreachable("CHANNEL_REFUSED", message)) from error
                replaced = True
            except BaseException:
                give_back()
                raise

    async def close(self) -> None:
        """Closes every connection."""
        for connecting in list(self._connecting.values()):
            connecting.cancel()
        everything = [entry for entries in self._pooled.values() for entry in entries]
        self._pooled.clear()
        for entry in everything:
            if entry.expiry is not None:
                entry.expiry.cancel()
            entry.connected.close()
        for entry in everything:
            with contextlib.suppress(*_broken()):
                async with asyncio.timeout(1):
                    await entry.connection.wait_closed()

    async def _open(self, login: Login, pooled: Pooled, timeout: float) -> RemoteShell:
        from opsconductor.agent.executors.ssh.session import RemoteShell

        shell = RemoteShell(login.preamble)
        async with asyncio.timeout(timeout):
            await pooled.connection.create_session(
                lambda: shell, login.remote_command, encoding=None, request_pty=False
            )
        return shell

    async def _reserve(self, login: Login, *, urgent: bool) -> Pooled:
        while (pooled := self._free(login, urgent=urgent)) is None:
            # Simultaneous steps wait for one login and share what comes of it, also a failure.
            connecting = self._connecting.get(login)
            if connecting is None:
                connecting = asyncio.create_task(self._connect(login))
                self._connecting[login] = connecting
                connecting.add_done_callback(functools.partial(self._connected, login))
            await asyncio.shield(connecting)
        pooled.users += 1
        if pooled.expiry is not None:
            pooled.expiry.cancel()
            pooled.expiry = None
        return pooled

    async def _connect(self, login: Login) -> None:
        connected = await connect(login, self._known_hosts, self._timeout)
        pooled = Pooled(connected, users=1)
        self._pooled.setdefault(login, []).append(pooled)
        self._release(login, pooled)

    def _connected(self, login: Login, connecting: asyncio.Task[None]) -> None:
        self._connecting.pop(login, None)
        if not connecting.cancelled():
            connecting.exception()  # seen, even when everybody who waited has gone

    def _free(self, login: Login, *, urgent: bool) -> Pooled | None:
        entries = self._pooled.get(login, [])
        for dead in [entry for entry in entries if entry.connection.is_closed()]:
            dead.connected.close()
            entries.remove(dead)
        return next((entry for entry in entries if urgent or entry.users < _CHANNELS), None)

    def _release(self, login: Login, pooled: Pooled) -> None:
        """Takes a share back; a connection without users is closed after the idle time."""
        pooled.users -= 1
        if pooled.users > 0:
            return
        if pooled in self._pooled.get(login, []):
            loop = asyncio.get_running_loop()
            pooled.expiry = loop.call_later(self._idle, self._expire, login, pooled)
        else:
            pooled.connected.close()

    def _expire(self, login: Login, pooled: Pooled) -> None:
        self._retire(login, pooled)
        pooled.connected.close()

    def _retire(self, login: Login, pooled: Pooled) -> None:
        """Takes a connection out of use for new calls; what runs on it goes on."""
        entries = self._pooled.get(login, [])
        if pooled in entries:
            entries.remove(pooled)
        if not entries:
            self._pooled.pop(login, None)


def _broken() -> tuple[type[BaseException], ...]:
    import asyncssh

    return (OSError, asyncssh.Error)
