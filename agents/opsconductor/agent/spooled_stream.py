"""One stream of one attempt on disk, and the end of a stream that has no room there any more."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_READ_BYTES = 64 * 1024


class SpooledStream:
    """The bytes of a stream and how many of them are sent; the file is made at the first byte."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._sha256 = hashlib.sha256()
        self.length = 0
        self.sent = 0
        self.acked = 0

    def append(self, data: bytes) -> None:
        """Stores all of the bytes, or raises OSError and stores none."""
        if self._descriptor < 0:
            self._open(os.O_CREAT)
        view, position = memoryview(data), self.length
        try:
            while view:
                written = os.pwrite(self._descriptor, view, position)
                position += written
                view = view[written:]
        except OSError:
            # What lies behind the length is never read; giving it back is a courtesy to others.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.length)
            raise
        self._sha256.update(data)
        self.length = position

    def recover(self) -> None:
        """Takes up a file of an earlier process."""
        self._open(0)
        while data := os.pread(self._descriptor, _READ_BYTES, self.length):
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


class Tail:
    """The last bytes of what a stream's file did not take, in memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self.left_out = 0
        """Bytes that came and are in neither the file nor here."""

    @property
    def begun(self) -> bool:
        """Whether anything has come: from then on nothing may go to the file before it."""
        return bool(self._data or self.left_out)

    def add(self, data: bytes) -> None:
        """Takes more bytes; forgets the oldest."""
        self._data += data
        # In bulk: to cut at every small write would copy the whole each time.
        if len(self._data) > 2 * self._limit:
            self._cut()

    def content(self) -> bytes:
        """Returns the bytes that are kept."""
        self._cut()
        return bytes(self._data)

    def _cut(self) -> None:
        surplus = max(len(self._data) - self._limit, 0)
        del self._data[:surplus]
        self.left_out += surplus
