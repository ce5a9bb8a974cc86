"""Commands under a supervisor: launched, followed by this agent or a later one, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import (
    MARKER,
    Outcome,
    PositionedSink,
    Refused,
    StepFailure,
)
from opsconductor.agent.executors.cgroups import Cgroup
from opsconductor.agent.executors.local.run_folder import STREAMS
from opsconductor.agent.executors.local.stop import StepTree
from opsconductor.agent.executors.pipes import CHUNK
from opsconductor.agent.executors.processes import (
    Traces,
    inspect,
    send_signal,
    step_processes,
)
from opsconductor.agent.executors.spawn import refusal
from opsconductor.agent.executors.waiting import boottime, wait_end

if TYPE_CHECKING:
    from datetime import timedelta

    from opsconductor.agent.executors.base import Call, Sink, Stop, Stream
    from opsconductor.agent.executors.local.run_folder import Exit, RunFolder
    from opsconductor.agent.executors.processes import ProcessId

START_WITHIN = 10.0
"""Seconds from the request to supervise a command to the last moment it may begin."""

# Only for supervisors that were killed before they opened the pipe of news.
_LOOK_EVERY = 1.0
_ENDING = 0.005
_SAYS_ITS_PID_WITHIN = 5.0
_UNHEARD = "unknown: its supervisor has not told the command's process id"


class StartOverdue(Refused):
    """The command was to begin long ago, has not, and never will."""


class News:
    """Wakes whoever waits when the supervisor has something new, or is gone."""

    def __init__(self, folder: RunFolder) -> None:
        self._descriptor = folder.open_news()
        self._wake = asyncio.Event()
        self._gone = False
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    async def wait(self) -> None:
        """Returns when there may be news; now and then for nothing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDING if self._gone else _LOOK_EVERY):
                await self._wake.wait()
        self._wake.clear()

    def close(self) -> None:
        """Closes the pipe."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _read(self) -> None:
        if not os.read(self._descriptor, CHUNK):
            # Its last writer is gone; the lock will tell in a moment.
            self._gone = True
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._wake.set()


class OutputReader:
    """Moves a run's output to a sink, piece by piece and each byte once."""

    def __init__(self, folder: RunFolder, sink: Sink) -> None:
        self._folder = folder
        self._sink = sink
        self.failure: Exception | None = None
        """What the sink failed with; what came after that was dropped."""
        self.offsets = {stream: self._position(stream, 0) for stream in STREAMS}
        self._dropped = dict.fromkeys(STREAMS, 0)
        self._safe = dict(self.offsets)

    async def move(self) -> bool:
        """Moves what there is of each stream, up to a limit; returns whether there was any."""
        moved = False
        for stream in STREAMS:
            if data := self._folder.read(stream, self.offsets[stream], CHUNK):
                await self._write(stream, data)
                moved = True
        return moved

    def missing(self, end: Exit) -> int:
        """Returns how many bytes were printed and not passed on, and tells the sink."""
        total = 0
        for stream in STREAMS:
            unread = max(end.lengths[stream] - self.offsets[stream], 0)
            count = end.lost.get(stream, 0) + unread + self._dropped[stream]
            if count and isinstance(self._sink, PositionedSink):
                self._sink.miss(stream, count)
            total += count
        return total

    async def _write(self, stream: Stream, data: bytes) -> None:
        if self.failure is None:
            try:
                await self._sink.write(stream, data)
            except Exception as error:  # noqa: BLE001 - told in the outcome
                self.failure = error
                self._dropped[stream] = self.offsets[stream] - self._stored(stream) + len(data)
        else:
            self._dropped[stream] += len(data)
        self.offsets[stream] += len(data)
        safe = self._position(stream, self.offsets[stream])
        self._folder.forget(stream, self._safe[stream], safe)
        self._safe[stream] = safe

    def _stored(self, stream: Stream) -> int:
        sink = self._sink
        return sink.position(stream) if isinstance(sink, PositionedSink) else self.offsets[stream]

    def _position(self, stream: Stream, read: int) -> int:
        if isinstance(self._sink, PositionedSink) and self.failure is None:
            return self._sink.position(stream)
        return read


class SupervisedCommand:
    """A command that a supervisor runs, as one agent process sees it."""

    def __init__(
        self, call: Call, folder: RunFolder, grace: timedelta, kill_wait: timedelta
    ) -> None:
        self._call = call
        self._folder = folder
        self._grace = grace
        self._kill_wait = kill_wait
        self._begun = False

    async def follow(self, sink: Sink, cancel: asyncio.Event, deadline: float) -> Outcome:
        """Moves output until the command has ended or is stopped, and returns its outcome.

        Ended from outside, it leaves everything as it is for the next agent.
        """
        reader = OutputReader(self._folder, sink)
        news = News(self._folder)
        ended = asyncio.create_task(self._until_the_end(reader, news))
        try:
            if self._is_over():
                await ended
            what = await wait_end(ended, cancel, deadline)
            if what != "ended":
                return await self._stop(ended, what, reader)
            ended.result()
            return await self._judge(reader)
        finally:
            ended.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ended
            news.close()
            if (cgroup := self._cgroup) is not None:
                cgroup.remove()

    async def _until_the_end(self, reader: OutputReader, news: News) -> None:
        while not self._is_over():
            while await reader.move():
                pass
            if not self._is_over():
                await news.wait()
        while await reader.move():
            pass

    def _is_over(self) -> bool:
        return self._folder.is_over() or self._is_overdue()

    def _is_overdue(self) -> bool:
        """Whether it has not begun in time; a supervisor that could still let it begin is ended."""
        if self._begun:
            return False
        # The clock first: a supervisor looks at it after it has recorded itself.
        late = boottime() - self._folder.start.start_by
        self._begun = self._has_begun
        if late <= 0 or self._begun:
            return False
        if (pids := self._folder.pids) is None:
            return True
        if late > _SAYS_ITS_PID_WITHIN:
            _kill(pids.supervisor)
        return late > 2 * _SAYS_ITS_PID_WITHIN

    async def _stop(self, ended: asyncio.Task[None], why: Stop, reader: OutputReader) -> Outcome:
        traces = await self._traces(ended)
        if self._never_began:
            raise self._refused(Outcome.not_begun(self._call, why))
        tree = StepTree(traces, self._cgroup)
        survivors = await tree.stop(self._grace, self._kill_wait)
        tree.reap()
        if traces.supervisor is None and not ended.done():
            survivors = (*survivors, f"{_UNHEARD} on the agent's host")
        if not survivors:
            await asyncio.wait({ended}, timeout=self._folder.start.linger + _SAYS_ITS_PID_WITHIN)
        end = self._folder.exit
        if end is not None and end.error_number:
            raise _not_started(self._folder, end)
        code = end.code if end is not None else None
        if end is not None:
            reader.missing(end)
        return Outcome.stopped(self._call, why, exit_code=code, survivors=survivors)

    async def _traces(self, ended: asyncio.Task[None]) -> Traces:
        """Returns what the command's processes are known by, when it has begun or never will."""
        while not self._has_begun and not ended.done():  # noqa: ASYNC110 - a file
            await asyncio.sleep(_ENDING)
        return self._known_by

    @property
    def _never_began(self) -> bool:
        """Whether no supervisor let it begin, when nothing is under way any more."""
        end = self._folder.exit
        if end is not None:
            return end.error_number == errno.ETIMEDOUT
        return self._folder.pids is None

    @property
    def _has_begun(self) -> bool:
        pids = self._folder.pids
        return pids is not None and (pids.command is not None or self._folder.exit is not None)

    @property
    def _known_by(self) -> Traces:
        marker = f"{MARKER}={self._call.attempt_id}".encode()
        pids = self._folder.pids
        return Traces(marker, pids.command, pids.supervisor) if pids else Traces(marker)

    @property
    def _cgroup(self) -> Cgroup | None:
        name = os.fsdecode(self._folder.start.cgroup)
        return Cgroup(Path(name)) if name else None

    async def _judge(self, reader: OutputReader) -> Outcome:
        if self._never_began:
            raise self._not_begun()
        end = self._folder.exit
        if end is None:
            return await self._lost()
        if end.error_number:
            raise _not_started(self._folder, end)
        outcome = Outcome.ended(self._call, end.code)
        missing = reader.missing(end)
        if reader.failure is None and not missing:
            return outcome
        why = reader.failure or "was the disk full?"
        message = f"the command ended, but {missing} bytes of its output are lost: {why}"
        return replace(outcome, error=StepFailure("OUTPUT_LOST", message, "non_retryable"))

    async def _lost(self) -> Outcome:
        """Returns the outcome of a command whose supervisor is gone without a record of its end."""
        left = await asyncio.to_thread(step_processes, self._known_by)
        message = "the command's supervisor was killed while it ran; its end was not seen"
        if self._folder.trouble:
            message = f"the command's supervisor failed: {self._folder.trouble}"
        outcome = Outcome.lost(self._call, "SUPERVISOR_DIED", message)
        return replace(outcome, survivors=tuple(map(str, left)))

    def _not_begun(self) -> Refused:
        why = "was killed before it let it begin"
        if self._folder.trouble:
            why = f"failed before it let it begin: {self._folder.trouble}"
        elif self._came_late:
            why = f"did not let it begin within {START_WITHIN:g} s"
        message = f"nothing was started: the command's supervisor {why}"
        error = StepFailure("SUPERVISOR_FAILED", message, "retryable")
        return self._refused(Outcome("failed", error=error))

    def _refused(self, outcome: Outcome) -> Refused:
        return StartOverdue(outcome) if self._came_late else Refused(outcome)

    @property
    def _came_late(self) -> bool:
        """Whether a supervisor that lives has not let it begin, or did not because it was late."""
        return self._folder.exit is not None or self._folder.is_supervised()


def _kill(supervisor: ProcessId) -> None:
    info = inspect(supervisor.pid)
    if info is not None and info.started == supervisor.started:
        send_signal(info, signal.SIGKILL)


def _not_started(folder: RunFolder, end: Exit) -> Refused:
    error = OSError(end.error_number, os.strerror(end.error_number))
    return refusal(folder.start.program, error)
