"""Method "local-command": runs a command on the agent's own host."""

from __future__ import annotations

import asyncio
import shlex
import signal
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.agent.executors.arguments import command_arguments
from opsconductor.agent.executors.base import MARKER, Outcome, Refused, StepFailure
from opsconductor.agent.executors.environment import local_environment
from opsconductor.agent.executors.local_stop import StepTree
from opsconductor.agent.executors.orphans import OrphanReaper
from opsconductor.agent.executors.pipes import pump
from opsconductor.agent.executors.processes import send_signal, step_processes
from opsconductor.agent.executors.spawn import Child, find_program, spawn
from opsconductor.agent.executors.waiting import boottime, wait_end

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from opsconductor.agent.executors.base import Call, Sink, Stop

_Pumps = tuple[asyncio.Task[Exception | None], asyncio.Task[Exception | None]]


class LocalExecutor:
    """Runs each command in its own session, with a fresh environment and no input.

    When the command's own process ends, the step ends: what background children still hold open is
    read for ``linger`` and then closed. A cancel or timeout ends the whole tree.
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

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Runs the command. See Executor."""
        try:
            return await self._run(call, sink, cancel)
        except Refused as refused:
            return refused.outcome

    async def close(self) -> None:
        """Collects dead orphans; nothing else is kept between calls."""
        await self._reaper.close()

    async def _run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        arguments = command_arguments(call.rendered)
        path = find_program(arguments[0])
        if cancel.is_set():
            return Outcome.not_begun(call, "cancelled")
        if self._prelude:
            path, arguments = b"/bin/sh", [b"sh", b"-c", self._prelude, b"sh", path, *arguments[1:]]
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
        tree = StepTree(child.pid, call.attempt_id)
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
    for info in step_processes(child.pid, f"{MARKER}={call.attempt_id}".encode()):
        send_signal(info, signal.SIGKILL)


def _prelude(limits: Mapping[str, int], directory: Path | None) -> bytes:
    lines = [f"ulimit -{letter} {value:d} || exit 126" for letter, value in limits.items()]
    if directory is not None:
        lines.append(f"cd {shlex.quote(str(directory))} || exit 126")
    return "\n".join([*lines, 'exec "$@"']).encode() if lines else b""


def _incomplete(outcome: Outcome, failure: Exception) -> Outcome:
    message = f"the command ended, but its output could not be stored: {failure}"
    error = StepFailure("OUTPUT_LOST", message, "non_retryable")
    return Outcome(outcome.state, outcome.exit_code, outcome.effects, error)
