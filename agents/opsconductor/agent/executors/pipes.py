"""Reading a child's pipes on the event loop, as fast as the sink takes it and no faster."""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import termios
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import Sink, Stream

CHUNK = 64 * 1024


class Pipe:
    """The reading end of one pipe; owns the descriptor until ``close``."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._waiter: asyncio.Future[None] | None = None
        self._left: int | None = None

    async def read(self) -> bytes:
        """Returns the next bytes; empty at the end, or when all that was left has been read."""
        while True:
            size = CHUNK if self._left is None else min(CHUNK, self._left)
            if size <= 0:
                return b""
            try:
                data = os.read(self._descriptor, size)
            except BlockingIOError:
                if self._left is not None:
                    return b""
                await self._readable()
            else:
                if self._left is not None:
                    self._left -= len(data)
                return data

    def finish(self) -> None:
        """Lets the reader take what is in the pipe now and then end, whoever still holds it."""
        if self._left is None:
            size = array.array("i", [0])
            fcntl.ioctl(self._descriptor, termios.FIONREAD, size)
            self._left = size[0]
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Closes the descriptor."""
        if self._descriptor >= 0:
            if self._waiter is not None:
                asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        loop.add_reader(self._descriptor, _resolve, self._waiter)
        try:
            await self._waiter
        finally:
            if self._descriptor >= 0:
                loop.remove_reader(self._descriptor)
            self._waiter = None


async def pump(pipe: Pipe, stream: Stream, sink: Sink) -> Exception | None:
    """Carries a pipe to the sink until its end; returns what the sink failed with, if it did.

    After a failure the rest is read and dropped, so that the producer is not left hanging.
    """
    failure: Exception | None = None
    while data := await pipe.read():
        if failure is None:
            try:
                await sink.write(stream, data)
            except Exception as error:  # noqa: BLE001 - any sink's failure is told in the outcome
                failure = error
    return failure


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
