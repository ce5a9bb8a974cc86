"""Output on its way from a supervised command to the spool, resumable at any byte.

Before each move the sink notes where it stands in the command's own output and in the masked
output, before and after. An agent killed at any time leaves a spool that tells which of the two is
true, so a later one goes on without losing or doubling a byte.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from opsconductor.agent.executors.local.run_folder import Taken, note_taken
from opsconductor.agent.output import STREAMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.agent.executors.base import Stream
    from opsconductor.agent.executors.local.run_folder import RunFolder
    from opsconductor.agent.executors.redact import StreamRedactor
    from opsconductor.agent.output import Spool


class TakingSink:
    """Masks output, stores it, and remembers over restarts how far it has come."""

    def __init__(
        self, folder: RunFolder, spool: Spool, redactors: Mapping[Stream, StreamRedactor]
    ) -> None:
        self._streams = {
            stream: _TakingStream(stream, folder, spool, redactors[stream]) for stream in STREAMS
        }

    async def write(self, stream: Stream, data: bytes) -> None:
        """Masks and stores; may hold back an end that could begin a secret."""
        await self._streams[stream].write(data)

    async def flush(self, *, whole: bool = True) -> None:
        """Stores what was held back. See Flushing."""
        for stream in self._streams.values():
            await stream.flush(whole=whole)

    def position(self, stream: Stream) -> int:
        """Returns how many bytes of the command's own output were stored for good."""
        return self._streams[stream].passed_raw

    def miss(self, stream: Stream, count: int) -> None:
        """Notes that behind what was written this many bytes are lost."""
        self._streams[stream].missed = count

    def close(self) -> None:
        """Closes its files."""
        for stream in self._streams.values():
            stream.close()


class _TakingStream:
    def __init__(
        self, stream: Stream, folder: RunFolder, spool: Spool, redactor: StreamRedactor
    ) -> None:
        self._stream = stream
        self._spool = spool
        self._redactor = redactor
        taken = folder.taken(stream)
        stored = spool.streams[stream].length
        moved = stored >= taken.passed_next or stored < taken.passed
        # Deleted is only what was stored, or had no room.
        moved = moved or not folder.holds(stream, taken.raw)
        self._passed = taken.passed_next if moved else taken.passed
        self.passed_raw = taken.raw_next if moved else taken.raw
        self._raw = self.passed_raw
        self.missed = 0
        self._failed = False
        self._skip = max(stored - self._passed, 0)
        if stored < self._passed:
            spool.resume(stream, missing=self._passed - stored)
        self._descriptor = folder.open_taken(stream)

    async def write(self, data: bytes) -> None:
        self._raw += len(data)
        done = self._redactor.feed(data)
        await self._move(done, self._raw - self._redactor.held)

    async def flush(self, *, whole: bool) -> None:
        if not self._failed:
            await self._move(self._redactor.finish(whole=whole), self._raw)
        if self.missed:
            self._spool.resume(self._stream, missing=self.missed)
            self.missed = 0

    async def _move(self, done: bytes, raw: int) -> None:
        if raw == self.passed_raw:
            return
        passed = self._passed + len(done)
        self._failed = True
        note_taken(self._descriptor, Taken(self._passed, passed, self.passed_raw, raw))
        # Part of the move was made by an agent that was killed in the middle of it.
        skipped = min(self._skip, len(done))
        self._skip -= skipped
        if len(done) > skipped:
            await self._spool.write(self._stream, done[skipped:])
        self._passed, self.passed_raw = passed, raw
        self._failed = False

    def close(self) -> None:
        os.close(self._descriptor)
