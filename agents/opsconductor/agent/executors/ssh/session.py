"""One shell on a target, as asyncssh's callbacks tell of it. Imports asyncssh: import it lazily."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from typing import TYPE_CHECKING

import asyncssh

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import Stream

# Above this the server is told to wait (asyncssh then lets the channel's window run out).
_MOST_QUEUED = 1024 * 1024
# What a command wrote before it ended fits into the window and the server's buffers.
_MOST_AFTER_EXIT = 8 * 1024 * 1024
_BYTE = 256


class RemoteShell(asyncssh.SSHClientSession[bytes]):
    """Keeps output in the order it came, and the exit code apart from the end of output."""

    def __init__(self, preamble: bytes = b"") -> None:
        """Takes what goes before the script: it may be a password."""
        self._preamble = preamble
        self.exit_code: int | None = None
        """Exit code; 128 and the signal that ended the command. None when none was told."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the command has ended, or the channel."""
        self.error: Exception | None = None
        """Why the channel ended, when the connection was lost."""
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._queue: deque[tuple[Stream, bytes]] = deque()
        self._queued = 0
        self._paused = False
        self._closed = False
        self._news = asyncio.Event()
        self._budget = _MOST_AFTER_EXIT

    def start(self, script: bytes) -> None:
        """Sends the script, and nothing after it."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(self._preamble + script)
            self._channel.write_eof()

    def close(self) -> None:
        """Closes the channel; the command is not ended by that."""
        if self._channel is not None:
            self._channel.close()

    async def read(self, linger: float) -> tuple[Stream, bytes] | None:
        """Returns the next output; None at its end.

        After the exit the end is also when nothing came for ``linger`` seconds, or when more came
        than the command can have left: then background children hold the channel open.
        """
        while not self._queue:
            if self._closed or self._budget <= 0:
                return None
            self._news.clear()
            try:
                async with asyncio.timeout(linger if self.ended.done() else None):
                    await self._news.wait()
            except TimeoutError:
                return None
        stream, data = self._queue.popleft()
        self._queued -= len(data)
        if self.ended.done():
            self._budget -= len(data)
        if self._paused and self._queued < _MOST_QUEUED // 2 and self._channel is not None:
            self._paused = False
            self._channel.resume_reading()
        return stream, data

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Keeps the channel."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Queues output and slows the server down when it is not fetched."""
        stream: Stream = "stderr" if datatype == asyncssh.EXTENDED_DATA_STDERR else "stdout"
        self._queue.append((stream, data))
        self._queued += len(data)
        if self._queued > _MOST_QUEUED and not self._paused and self._channel is not None:
            self._paused = True
            self._channel.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        """Keeps the channel open: a command may close its output long before it ends."""
        return True

    def exit_status_received(self, status: int) -> None:
        """Keeps the exit code."""
        self._end(status % _BYTE)

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: FBT001 - asyncssh's interface
        """Keeps the signal as shells tell it."""
        self._end(128 + _number(signal))

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends everything."""
        self._closed = True
        self.error = exc
        self._end(self.exit_code)

    def _end(self, code: int | None) -> None:
        self.exit_code = code
        if not self.ended.done():
            self.ended.set_result(None)
        self._news.set()


def _number(name: str) -> int:
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        return 0
