"""Method "ssh": runs a command on a target, keeping connections and checking host keys."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.agent.executors.arguments import command_arguments
from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.environment import step_variables
from opsconductor.agent.executors.ssh.carrier import Header, command_script
from opsconductor.agent.executors.ssh.command import SshCommand, StopTimes
from opsconductor.agent.executors.ssh.connection import login_of
from opsconductor.agent.executors.ssh.pool import Lease, SshPool
from opsconductor.agent.executors.waiting import boottime, wait_end
from opsconductor.tool_registry.rendering.rendered import is_elevated

if TYPE_CHECKING:
    from pathlib import Path

    from opsconductor.agent.executors.base import Call, Sink
    from opsconductor.agent.executors.credential import Credentials
    from opsconductor.agent.executors.ssh.connection import Login


class SshExecutor:
    """Runs commands as a constant remote command with the quoted arguments on its input.

    When the command's own process ends, the step ends; what background children still hold open is
    read until nothing came for ``linger``. A cancel or timeout ends the whole tree on the target.
    """

    method = "ssh"

    def __init__(
        self,
        credentials: Credentials,
        *,
        known_hosts: Path | None = None,
        connect_timeout: timedelta = timedelta(seconds=10),
        idle: timedelta = timedelta(minutes=2),
        grace: timedelta = timedelta(seconds=5),
        kill_wait: timedelta = timedelta(seconds=5),
        linger: timedelta = timedelta(seconds=1),
    ) -> None:
        self._credentials = credentials
        self._times = StopTimes(grace, kill_wait, linger)
        self._pool = SshPool(known_hosts=known_hosts, connect_timeout=connect_timeout, idle=idle)

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Runs the command on the target. See Executor."""
        try:
            return await self._run(call, sink, cancel)
        except Refused as refused:
            return refused.outcome

    async def close(self) -> None:
        """Closes every connection."""
        await self._pool.close()

    async def _run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        deadline = boottime() + call.timeout.total_seconds()
        arguments = command_arguments(call.rendered)
        header = Header(secrets.token_hex(16), arguments[0].decode())
        script = command_script(header.nonce, arguments, step_variables(call))
        login = login_of(call.target or {}, self._credentials)
        login = replace(login, elevated=is_elevated(call.rendered))
        lease = await self._reach(call, login, cancel, deadline)
        try:
            command = SshCommand(call, login, lease.shell, header, self._times)
            return await command.run(script, sink, cancel, deadline, self._pool)
        finally:
            lease.release()

    async def _reach(
        self, call: Call, login: Login, cancel: asyncio.Event, deadline: float
    ) -> Lease:
        """Returns a remote shell; raises Refused when stopped or failed before there is one."""
        opening = asyncio.ensure_future(self._pool.lease(login))
        try:
            what = await wait_end(opening, cancel, deadline)
            if what == "ended":
                return opening.result()
        finally:
            if not opening.done():
                opening.cancel()
                with contextlib.suppress(asyncio.CancelledError, Refused):
                    (await opening).release()
        raise Refused(Outcome.not_begun(call, what))
