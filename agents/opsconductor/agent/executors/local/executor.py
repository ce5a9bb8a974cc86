"""Method "local-command": runs a command on the agent's own host."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.agent.executors.arguments import command_arguments
from opsconductor.agent.executors.base import MARKER, Outcome, Refused, StepFailure
from opsconductor.agent.executors.cgroups import Cgroups
from opsconductor.agent.executors.elevation import has_rights, through_sudo
from opsconductor.agent.executors.environment import local_environment
from opsconductor.agent.executors.local.nursery import Nursery
from opsconductor.agent.executors.local.run_folder import Start
from opsconductor.agent.executors.local.stop import StepTree
from opsconductor.agent.executors.local.supervised import (
    START_WITHIN,
    StartOverdue,
    SupervisedCommand,
)
from opsconductor.agent.executors.orphans import OrphanReaper
from opsconductor.agent.executors.pipes import pump
from opsconductor.agent.executors.processes import (
    ProcessId,
    Traces,
    send_signal,
    step_processes,
)
from opsconductor.agent.executors.spawn import Child, find_program, spawn
from opsconductor.agent.executors.waiting import boottime, wait_end
from opsconductor.tool_registry.rendering.rendered import capabilities_of, is_elevated

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from opsconductor.agent.executors.base import Call, Executor, Sink, Stop
    from opsconductor.agent.executors.local.run_folder import RunFolder

_Pumps = tuple[asyncio.Task[Exception | None], asyncio.Task[Exception | None]]


class LocalExecutor:
    """Runs each command in its own session, with a fresh environment and no input.

    When the command's own process ends, the step ends: what background children still hold open is
    read for ``linger`` and then closed. A cancel or timeout ends the whole tree. A call with a
    folder runs under a supervisor and outlives this process.
    """

    method = "local-command"

    def __init__(
        self,
        *,
        grace: timedelta = timedelta(seconds=5),
        kill_wait: timedelta = timedelta(seconds=5),
        linger: timedelta = timedelta(seconds=1),
        limits: Mapping[str, int] | None = None,
        directory: Path | None = None,
    ) -> None:
        """Takes ``limits`` as letters of ``ulimit`` (``{"v": 1048576}``)."""
        self._grace = grace
        self._kill_wait = kill_wait
        self._linger = linger.total_seconds()
        self._prelude = _prelude(limits or {}, directory)
        self._reaper = OrphanReaper()
        self._nursery = Nursery()
        self._cgroups: Cgroups | None = None

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Runs the command. See Executor."""
        try:
            return await self._run(call, sink, cancel)
        except Refused as refused:
            return refused.outcome

    def warm(self) -> None:
        """Gets ready for calls with a folder."""
        self._nursery.warm()
        self._cgroups = self._cgroups or Cgroups.of_this_process()

    def adopting(self) -> Executor:
        """Returns an executor that takes up what an earlier process has begun."""
        return Adopter(self._grace, self._kill_wait)

    async def close(self) -> None:
        """Collects dead orphans and ends the nursery; supervised commands run on."""
        await self._reaper.close()
        await self._nursery.close()

    async def _run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        arguments = command_arguments(call.rendered)
        path = find_program(arguments[0])
        capabilities = capabilities_of(call.rendered)
        if is_elevated(call.rendered) and not has_rights(capabilities):
            path, arguments = through_sudo(arguments, capabilities)
        if cancel.is_set():
            return Outcome.not_begun(call, "cancelled")
        if self._prelude:
            path, arguments = b"/bin/sh", [b"sh", b"-c", self._prelude, b"sh", path, *arguments[1:]]
        if call.folder is not None:
            deadline = boottime() + call.timeout.total_seconds()
            nursery = self._launch(call, call.folder, path, arguments, deadline)
            command = SupervisedCommand(call, call.folder, self._grace, self._kill_wait)
            try:
                return await command.follow(sink, cancel, deadline)
            except StartOverdue:
                self._nursery.abandon(nursery)
                raise
        return await self._run_here(call, path, arguments, sink, cancel)

    def _launch(
        self, call: Call, folder: RunFolder, path: bytes, arguments: list[bytes], deadline: float
    ) -> int:
        self.warm()
        environment = local_environment(call)
        start = Start(
            program=path,
            arguments=arguments,
            environment=[f"{name}={text}".encode() for name, text in environment.items()],
            linger=self._linger,
            deadline=deadline,
            start_by=boottime() + START_WITHIN,
            cgroup=self._cgroups.path_of(call.attempt_id) if self._cgroups is not None else b"",
        )
        try:
            lock = folder.prepare(start)
            try:
                return self._nursery.launch(folder.path, lock)
            finally:
                os.close(lock)
        except OSError as error:
            message = f"no supervisor for the command could be started: {error}"
            raise Refused(Outcome.refused("SUPERVISOR_FAILED", message)) from error

    async def _run_here(
        self, call: Call, path: bytes, arguments: list[bytes], sink: Sink, cancel: asyncio.Event
    ) -> Outcome:
        child = spawn(path, arguments, local_environment(call))
        self._reaper.own(child.pid)
        pumps = (
            asyncio.create_task(pump(child.stdout, "stdout", sink)),
            asyncio.create_task(pump(child.stderr, "stderr", sink)),
        )
        try:
            return await self._follow(call, child, pumps, cancel)
        except BaseException:
            _abandon(call, child)
            raise
        finally:
            for task in pumps:
                task.cancel()
            child.close()
            self._reaper.disown(child.pid)

    async def _follow(
        self, call: Call, child: Child, pumps: _Pumps, cancel: asyncio.Event
    ) -> Outcome:
        ended = child.ended()
        what = await wait_end(ended, cancel, boottime() + call.timeout.total_seconds())
        if what != "ended":
            return await self._stop(call, child, pumps, ended, what)
        exit_code = child.wait()
        failure = await self._drain(child, pumps)
        self._reaper.sweep()
        outcome = Outcome.ended(call, exit_code)
        return outcome if failure is None else _incomplete(outcome, failure)

    async def _stop(
        self, call: Call, child: Child, pumps: _Pumps, ended: asyncio.Future[None], why: Stop
    ) -> Outcome:
        tree = StepTree(_traces(call, child))
        survivors = await tree.stop(self._grace, self._kill_wait)
        # Reaped last: until then no other process can get the number the tree is found by.
        exit_code = child.wait() if ended.done() else None
        tree.reap()
        await self._drain(child, pumps)
        return Outcome.stopped(call, why, exit_code=exit_code, survivors=survivors)

    async def _drain(self, child: Child, pumps: _Pumps) -> Exception | None:
        _, late = await asyncio.wait(pumps, timeout=self._linger)
        if late:
            child.stdout.finish()
            child.stderr.finish()
        failures = await asyncio.gather(*pumps)
        return next((failure for failure in failures if failure is not None), None)


def _abandon(call: Call, child: Child) -> None:
    """Kills what can be found at once; there is no loop time left to look twice."""
    if child.reaped:
        return
    for info in step_processes(_traces(call, child)):
        send_signal(info, signal.SIGKILL)


def _traces(call: Call, child: Child) -> Traces:
    # Not reaped, so no other process can get its number.
    return Traces(f"{MARKER}={call.attempt_id}".encode(), ProcessId(child.pid))


class Adopter:
    """Follows commands that an earlier process of this agent has begun."""

    method = "local-command"

    def __init__(self, grace: timedelta, kill_wait: timedelta) -> None:
        self._grace = grace
        self._kill_wait = kill_wait

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Follows a command to its end; its timeout runs since its start. See Executor."""
        if call.folder is None:
            raise ValueError(f"attempt {call.attempt_id} was not supervised")
        command = SupervisedCommand(call, call.folder, self._grace, self._kill_wait)
        try:
            return await command.follow(sink, cancel, call.folder.start.deadline)
        except Refused as refused:
            return refused.outcome
        except FileNotFoundError:
            message = "the agent was killed before a supervisor for the command was there"
            return Outcome.lost(call, "AGENT_DIED", message)

    async def close(self) -> None:
        """Keeps nothing."""


def _prelude(limits: Mapping[str, int], directory: Path | None) -> bytes:
    lines = [f"ulimit -{letter} {value:d} || exit 126" for letter, value in limits.items()]
    if directory is not None:
        lines.append(f"cd {shlex.quote(str(directory))} || exit 126")
    return "\n".join([*lines, 'exec "$@"']).encode() if lines else b""


def _incomplete(outcome: Outcome, failure: Exception) -> Outcome:
    message = f"the command ended, but its output could not be stored: {failure}"
    error = StepFailure("OUTPUT_LOST", message, "non_retryable")
    return Outcome(outcome.state, outcome.exit_code, outcome.effects, error)
