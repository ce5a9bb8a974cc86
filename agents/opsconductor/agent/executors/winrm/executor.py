"""Method "winrm": PowerShell, programs and cmd scripts on Windows over WS-Management and TLS."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

from opsconductor.agent.executors import needs
from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.environment import step_variables
from opsconductor.agent.executors.kept_connections import KeptConnections
from opsconductor.agent.executors.waiting import boottime, wait_end
from opsconductor.agent.executors.winrm.command import WinRmCommand
from opsconductor.agent.executors.winrm.connection import (
    WinRmConnection,
    WinRmLogin,
    login_of,
    open_connection,
)
from opsconductor.agent.executors.winrm.line import command_line_of

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import Call, Sink
    from opsconductor.agent.executors.credential import Credentials
    from opsconductor.agent.executors.registry import Collaborators
    from opsconductor.agent.executors.winrm.line import RemoteLine

LIBRARY = "winrm"


def make(offered: Collaborators) -> WinRmExecutor:
    """Returns the executor of an agent; raises Unavailable."""
    needs.library(LIBRARY, "pywinrm")
    return WinRmExecutor(offered.credentials, grace=offered.grace)


class WinRmExecutor:
    """Runs each call in a shell of its own on a connection that is kept and logged in once.

    A cancel or timeout sends the signal to terminate and deletes the shell, which ends what runs
    in it.
    """

    method = "winrm"

    def __init__(
        self,
        credentials: Credentials,
        *,
        idle: timedelta = timedelta(minutes=2),
        grace: timedelta = timedelta(seconds=5),
    ) -> None:
        self._credentials = credentials
        self._grace = grace.total_seconds()
        self._connections: KeptConnections[WinRmLogin, WinRmConnection] = KeptConnections(
            open_connection, _close, _is_alive, idle=idle.total_seconds()
        )

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Runs the command on the target. See Executor."""
        if find_spec(LIBRARY) is None:
            message = "WinRM needs the Python library pywinrm on the agent: pip install pywinrm"
            return Outcome.refused("LIBRARY_MISSING", message)
        try:
            line = command_line_of(call.rendered)
            login = login_of(call, self._credentials)
            if cancel.is_set():
                return Outcome.not_begun(call, "cancelled")
            async with self._connections.lent(login) as connection:
                return await self._run(call, line, connection, sink, cancel)
        except Refused as refused:
            return refused.outcome

    async def close(self) -> None:
        """Closes every connection."""
        await self._connections.close()

    async def _run(
        self,
        call: Call,
        line: RemoteLine,
        connection: WinRmConnection,
        sink: Sink,
        cancel: asyncio.Event,
    ) -> Outcome:
        deadline = boottime() + call.timeout.total_seconds()
        opening = asyncio.ensure_future(connection.open_shell(step_variables(call)))
        try:
            what = await wait_end(opening, cancel, deadline)
            if what != "ended":
                raise Refused(Outcome.not_begun(call, what))
            shell = opening.result()
        finally:
            if not opening.done():
                opening.add_done_callback(lambda late: _forget(connection, late))
        try:
            command = WinRmCommand(call, connection, shell, self._grace)
            return await command.run(line, sink, cancel, deadline)
        finally:
            with contextlib.suppress(Refused):
                await connection.delete_shell(shell)


def _forget(connection: WinRmConnection, late: asyncio.Future[str]) -> None:
    """Makes sure that a shell which opens too late is not left behind, nor its connection used."""
    connection.broken = True
    if not late.cancelled():
        late.exception()


async def _close(connection: WinRmConnection) -> None:
    await connection.close()


async def _is_alive(connection: WinRmConnection) -> bool:
    return not connection.broken
