"""Output of attempts on disk, until the orchestrator has stored every byte.

One file per attempt and stream under ``spool/``. What is declared in a report is what is here:
bytes beyond the limit are dropped and counted, never declared.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Stream = Literal["stdout", "stderr"]
STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")
MAX_ATTEMPT_BYTES = 16 * 1024 * 1024
MAX_SPOOL_BYTES = 2 * 1024 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
CREDIT_BYTES = 1024 * 1024
"""Most bytes of one attempt that are sent and not yet acknowledged."""

_log = logging.getLogger(__name__)


class SpooledStream:
    """One stream of one attempt; the file is made at its first byte."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._sha256 = hashlib.sha256()
        self.length = 0
        self.sent = 0
        self.acked = 0

    def append(self, data: bytes) -> None:
        """Stores bytes; raises OSError when the disk does not take them."""
        if self._descriptor < 0:
            self._open(os.O_CREAT)
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, self.length)
            self._sha256.update(view[:written])
            self.length += written
            view = view[written:]

    def recover(self) -> None:
        """Takes up a file of an earlier process."""
        self._open(0)
        while data := os.pread(self._descriptor, CHUNK_BYTES, self.length):
            self._sha256.update(data)
            self.length += len(data)

    def read(self, offset: int, limit: int) -> bytes:
        """Returns stored bytes from an offset on."""
        if self._descriptor < 0 or offset >= self.length:
            return b""
        return os.pread(self._descriptor, min(limit, self.length - offset), offset)

    @property
    def sha256(self) -> str:
        """SHA-256 of everything stored, hex; empty when nothing is."""
        return self._sha256.hexdigest() if self.length else ""

    def acknowledge(self, stored: int) -> None:
        """Takes the orchestrator's word for what it has: more, or less after a restore."""
        stored = min(stored, self.length)
        if stored < self.acked or stored > self.sent:
            self.sent = stored
        self.acked = stored

    def sync(self) -> None:
        """Puts the bytes on disk."""
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Closes the file and keeps it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Deletes the file."""
        if self._descriptor >= 0:
            self.close()
            self._path.unlink(missing_ok=True)

    def _open(self, extra: int) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | extra
        self._descriptor = os.open(self._path, flags, 0o600)


class Spool:
    """Both streams of one attempt; takes output as the executors' sink does."""

    def __init__(self, attempt_id: str, folder: Path, notify: Callable[[Spool], None]) -> None:
        self.attempt_id = attempt_id
        self.streams = {name: SpooledStream(folder / f"{attempt_id}.{name}") for name in STREAMS}
        self.dropped = 0
        self.released = False
        self.refused = False
        """Whether the orchestrator does not take it in this session."""
        self.room = MAX_ATTEMPT_BYTES
        self._notify = notify

    async def write(self, stream: Stream, data: bytes) -> None:
        """Stores output up to the limit and counts the rest."""
        kept = data[: max(self.room, 0)]
        if kept:
            try:
                self.streams[stream].append(kept)
            except OSError as exc:
                _log.error("output of %s is cut: %s", self.attempt_id, exc)
                self.dropped += len(data)
                self.room = 0
                return
            self.room -= len(kept)
            self._notify(self)
        if len(kept) < len(data):
            if not self.dropped:
                _log.warning("output of %s is cut at %d bytes", self.attempt_id, MAX_ATTEMPT_BYTES)
            self.dropped += len(data) - len(kept)

    def content(self, stream: Stream) -> bytes:
        """Returns everything stored of a stream."""
        stored = self.streams[stream]
        return stored.read(0, stored.length)

    @property
    def unacknowledged(self) -> int:
        """Bytes sent and not yet acknowledged."""
        return sum(max(stream.sent - stream.acked, 0) for stream in self.streams.values())

    @property
    def delivered(self) -> bool:
        """Whether every stored byte is acknowledged."""
        return all(stream.acked >= stream.length for stream in self.streams.values())

    def next_chunk(self) -> tuple[Stream, int, bytes] | None:
        """Returns the next piece and counts it as sent; None without data or credit."""
        if self.refused:
            return None
        room = CREDIT_BYTES - self.unacknowledged
        for name, stream in self.streams.items():
            data = stream.read(stream.sent, min(CHUNK_BYTES, room)) if room > 0 else b""
            if data:
                offset, stream.sent = stream.sent, stream.sent + len(data)
                return name, offset, data
        return None

    def rewind(self) -> None:
        """Goes back to what is acknowledged, for a new connection."""
        for stream in self.streams.values():
            stream.sent = stream.acked


class Spools:
    """All spools of the agent, and which of them have something to send."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spools: dict[str, Spool] = {}
        self._wake: Callable[[], None] = lambda: None
        folder.mkdir(mode=0o700, exist_ok=True)

    def open(self, attempt_id: str) -> Spool:
        """Returns a new spool; its room shrinks when all spools together are near their limit."""
        spool = Spool(attempt_id, self._folder, lambda _: self._wake())
        used = sum(s.length for each in self._spools.values() for s in each.streams.values())
        spool.room = min(spool.room, MAX_SPOOL_BYTES - used)
        self._spools[attempt_id] = spool
        return spool

    def recover(self) -> dict[str, Spool]:
        """Takes up the files of an earlier process and returns their spools by attempt."""
        for path in sorted(self._folder.iterdir()):
            attempt_id, _, name = path.name.rpartition(".")
            if name in STREAMS and attempt_id:
                spool = self._spools.get(attempt_id) or self.open(attempt_id)
                spool.streams[name].recover()
        return dict(self._spools)

    def find(self, attempt_id: str) -> Spool | None:
        """Returns the spool of an attempt while it is kept."""
        return self._spools.get(attempt_id)

    def __iter__(self) -> Iterator[Spool]:
        return iter(list(self._spools.values()))

    def on_output(self, wake: Callable[[], None]) -> None:
        """Calls ``wake`` whenever there may be something to send, in this new session."""
        self._wake = wake
        for spool in self._spools.values():
            spool.refused = False
        if self._spools:
            wake()

    def release(self, attempt_id: str) -> None:
        """Notes that the attempt's report is acknowledged; its spool may go when sent."""
        if spool := self._spools.get(attempt_id):
            spool.released = True
            self._drop_if_done(spool)

    def acknowledge(self, attempt_id: str, stream: Stream, stored: int) -> None:
        """Takes an acknowledgement; deletes what nobody needs any more."""
        if spool := self._spools.get(attempt_id):
            spool.streams[stream].acknowledge(stored)
            self._drop_if_done(spool)
            self._wake()

    def refuse(self, attempt_id: str) -> None:
        """Stops sending a spool that is not taken; deletes it when its attempt is settled."""
        if spool := self._spools.get(attempt_id):
            spool.refused = True
            if spool.released:
                self.discard(attempt_id)

    def discard(self, attempt_id: str) -> None:
        """Gives up a spool that nobody will ever take."""
        if spool := self._spools.pop(attempt_id, None):
            for stream in spool.streams.values():
                stream.remove()

    def close(self) -> None:
        """Closes all files and keeps them."""
        for spool in self._spools.values():
            for stream in spool.streams.values():
                with contextlib.suppress(OSError):
                    stream.close()

    def _drop_if_done(self, spool: Spool) -> None:
        if spool.released and (spool.delivered or spool.refused):
            self.discard(spool.attempt_id)
