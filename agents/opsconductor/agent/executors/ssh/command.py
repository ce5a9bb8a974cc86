"""One command on an open remote shell: started, streamed, and stopped when it must be."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.base import Outcome, Refused, StepFailure
from opsconductor.agent.executors.elevation import remedy
from opsconductor.agent.executors.ssh.stop import RemoteTree
from opsconductor.agent.executors.waiting import wait_end

if TYPE_CHECKING:
    from datetime import timedelta

    from opsconductor.agent.executors.base import Call, Sink, Stop
    from opsconductor.agent.executors.ssh.carrier import Header
    from opsconductor.agent.executors.ssh.connection import Login
    from opsconductor.agent.executors.ssh.pool import SshPool
    from opsconductor.agent.executors.ssh.session import RemoteShell

_MOST_COMPLAINT = 2048
_UNHEARD = "unknown: the command had not told its process id"


@dataclass(frozen=True, slots=True)
class StopTimes:
    """How long each part of stopping may take."""

    grace: timedelta
    kill_wait: timedelta
    linger: timedelta


class SshCommand:
    """Follows one command from its script to its outcome."""

    def __init__(
        self, call: Call, login: Login, shell: RemoteShell, header: Header, times: StopTimes
    ) -> None:
        self._call = call
        self._login = login
        self._shell = shell
        self._header = header
        self._times = times
        self._linger = times.linger.total_seconds()
        self._heard = asyncio.Event()
        self._complaint = b""

    async def run(
        self, script: bytes, sink: Sink, cancel: asyncio.Event, deadline: float, pool: SshPool
    ) -> Outcome:
        """Sends the script and returns what became of the command."""
        self._shell.start(script)
        pump = asyncio.create_task(self._pump(sink))
        try:
            what = await wait_end(self._shell.ended, cancel, deadline)
            if what != "ended":
                return await self._stop(what, pump, pool)
            return self._judge(await pump)
        finally:
            pump.cancel()

    async def _pump(self, sink: Sink) -> Exception | None:
        failure: Exception | None = None
        while (item := await self._shell.read(self._linger)) is not None:
            stream, data = item
            if stream == "stdout":
                data = self._header.feed(data)
                if self._header.found:
                    self._heard.set()
            elif not self._header.found:
                self._complaint = (self._complaint + data)[-_MOST_COMPLAINT:]
            if data and failure is None:
                try:
                    await sink.write(stream, data)
                except Exception as error:  # noqa: BLE001 - told in the outcome
                    failure = error
        return failure

    def _judge(self, failure: Exception | None) -> Outcome:
        if self._shell.exit_code is None:
            why = self._shell.error or "the server closed the channel without an exit code"
            message = f"the connection to {self._login} was lost while the command ran: {why}"
            return Outcome.lost(self._call, "CONNECTION_LOST", message)
        self._require_start()
        outcome = Outcome.ended(self._call, self._shell.exit_code)
        if failure is None:
            return outcome
        message = f"the command on {self._login} ended, but its output was not stored: {failure}"
        error = StepFailure("OUTPUT_LOST", message, "non_retryable")
        return Outcome(outcome.state, outcome.exit_code, outcome.effects, error)

    def _require_start(self) -> None:
        """Raises Refused when the exit code is not the command's."""
        if not self._header.found and self._login.become_user:
            said = self._complaint.decode("utf-8", "replace").strip().splitlines()
            user, other = self._login.credential.username, self._login.become_user
            message = (
                f"user {user} cannot become {other} by sudo on {self._login}:"
                f" {said[-1] if said else 'sudo said nothing'}; nothing was done."
                f" {remedy(user, other)}, or give its credential become: sudo and a become_password"
            )
            raise Refused(Outcome.refused("BECOME_FAILED", message))
        if not self._header.found:
            message = (
                f"the login shell of {self._login.credential.username} on {self._login} ended with"
                f" exit code {self._shell.exit_code} before it read the command; is it a shell?"
            )
            raise Refused(Outcome.refused("REMOTE_SHELL_UNUSABLE", message))
        if self._header.pid is None:
            message = (
                f"cannot start {self._header.program} on {self._login}: it is not in the PATH of"
                f" user {self._login.credential.username}; install it or give its absolute path"
            )
            raise Refused(Outcome.refused("COMMAND_NOT_FOUND", message))

    async def _stop(
        self, why: Stop, pump: asyncio.Task[Exception | None], pool: SshPool
    ) -> Outcome:
        survivors: tuple[str, ...] = (f"{_UNHEARD} on {self._login}",)
        await self._hear()
        if self._header.found:
            if self._header.pid is None:
                self._require_start()
            else:
                tree = RemoteTree(pool, self._login, self._header.pid, self._call.attempt_id)
                survivors = await tree.stop(self._times.grace, self._times.kill_wait)
        await asyncio.wait({self._shell.ended}, timeout=self._linger)
        if self._shell.ended.done():
            await pump
        return Outcome.stopped(
            self._call, why, exit_code=self._shell.exit_code, survivors=survivors
        )

    async def _hear(self) -> None:
        """Waits for the process id as long as a polite stop may take."""
        heard = asyncio.ensure_future(self._heard.wait())
        waiting: list[asyncio.Future[Any]] = [heard, self._shell.ended]
        await asyncio.wait(
            waiting,
            timeout=self._times.grace.total_seconds(),
            return_when=asyncio.FIRST_COMPLETED,
        )
        heard.cancel()
