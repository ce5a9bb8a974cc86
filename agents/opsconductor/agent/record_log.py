"""An append-only file of checksummed records that survives being cut off anywhere.

Layout of a record: two marker bytes, the payload's length (4 bytes, little endian), the first 8
bytes of the SHA-256 of length and payload, then the payload. A last record that ends too early, or
has parts that were never written, is the torn end of the last write and is cut away. Any other bad
record is damage of something that may have been promised, and nothing is guessed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MARKER = b"\xa7J"
MAX_RECORD_BYTES = 2 * 1024 * 1024
BALLAST_BYTES = 2 * 1024 * 1024

_NEVER_WRITTEN = bytes(16)
_HEADER = struct.Struct("<2sI8s")
_log = logging.getLogger(__name__)


class JournalCorrupt(Exception):
    """JOURNAL_CORRUPT: a record in the middle of the journal is damaged."""


class JournalFailed(Exception):
    """JOURNAL_FAILED: the journal's file did not take a write or a sync."""


def encode(payload: bytes) -> bytes:
    """Returns a record; raises ValueError for a payload over the limit."""
    if len(payload) > MAX_RECORD_BYTES:
        raise ValueError(f"a record of {len(payload)} bytes is over {MAX_RECORD_BYTES}")
    return _HEADER.pack(MARKER, len(payload), _checksum(payload)) + payload


def decode(data: bytes) -> tuple[list[bytes], int]:
    """Returns the payloads and how many bytes of ``data`` are good.

    Raises:
        JournalCorrupt: A bad record is followed by a good one, or was whole once.
    """
    payloads: list[bytes] = []
    position = 0
    while (payload := _record_at(data, position)) is not None:
        payloads.append(payload)
        position += _HEADER.size + len(payload)
    later = position
    while (later := data.find(MARKER, later + 1)) >= 0:
        if _record_at(data, later) is not None:
            raise JournalCorrupt(f"the record at byte {position} is damaged, later ones are whole")
    if not _is_torn(data[position:]):
        raise JournalCorrupt(f"the last record, at byte {position}, is damaged")
    return payloads, position


def _is_torn(rest: bytes) -> bool:
    """Tells whether bytes can be what is left of a record whose writing was interrupted.

    A payload holds no zeros; a long run of them, or one at an end, never arrived on the disk.
    """
    if len(rest) < _HEADER.size or rest[0] == 0 or rest[-1] == 0 or _NEVER_WRITTEN in rest:
        return True
    marker, length, checksum = _HEADER.unpack_from(rest)
    payload = rest[_HEADER.size :]
    too_short = length > len(payload) and _checksum(payload) != checksum
    return bool(marker == MARKER and too_short)


def _record_at(data: bytes, position: int) -> bytes | None:
    if len(data) - position < _HEADER.size:
        return None
    marker, length, checksum = _HEADER.unpack_from(data, position)
    start = position + _HEADER.size
    if marker != MARKER or length > MAX_RECORD_BYTES or start + length > len(data):
        return None
    payload = data[start : start + length]
    return payload if _checksum(payload) == checksum else None


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(struct.pack("<I", len(payload)) + payload).digest()[:8]


class JournalFull(JournalFailed):
    """DISK_FULL: there is no room for a record; nothing was written."""


class RecordLog:
    """The open file: appends at once, syncs in a thread for all who wait together."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.size = size
        # Counted over all time, not in the file: that shrinks when it is rewritten.
        self._appended = 0
        self._synced = 0
        self._failed: str = ""
        self._syncing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-sync")
        self._ballast = path.with_suffix(".ballast")
        self._reserved = _allocate(self._ballast)
        if not self._reserved:
            _log.error("journal: the disk is full; there is no room for the reserve")

    @classmethod
    def open(cls, path: Path) -> tuple[RecordLog, list[bytes]]:
        """Opens or makes the file; cuts a torn end, raises JournalCorrupt for damage."""
        existed = path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            data = path.read_bytes()
            payloads, good = decode(data)
            if good < len(data):
                _log.warning("journal: cut a torn end of %d bytes", len(data) - good)
                os.ftruncate(descriptor, good)
                os.fdatasync(descriptor)
            os.lseek(descriptor, good, os.SEEK_SET)
            if not existed:
                sync_folder(path)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, good), payloads

    def append(self, payload: bytes, *, urgent: bool = False) -> None:
        """Hands a record to the operating system; it survives this process, not yet the machine.

        Args:
            payload: The record.
            urgent: Whether the reserve may be given up for it when the disk is full.

        Raises:
            JournalFull: There is no room; nothing was written.
            JournalFailed: The file cannot be relied on any more; the log takes nothing more.
        """
        if self._failed:
            raise JournalFailed(self._failed)
        record = encode(payload)
        if not (urgent or self.restore_reserve()):
            raise JournalFull("the disk is full: there is no room for the end of what would start")
        while True:
            try:
                _write_all(self._descriptor, record)
            except OSError as exc:
                self._take_back(exc)
                if not (urgent and self._free_ballast()):
                    raise JournalFull(f"the disk is full: {exc}") from exc
            else:
                self.size += len(record)
                self._appended += len(record)
                return

    def restore_reserve(self) -> bool:
        """Takes up the reserve again after it was given up; tells whether it is there."""
        if not self._reserved and _allocate(self._ballast):
            self._reserved = True
            _log.info("journal: the reserve for a full disk is there again")
        return self._reserved

    async def sync(self) -> None:
        """Waits until everything appended so far is on disk; one fdatasync serves all who wait."""
        target = self._appended
        while self._synced < target:
            if self._failed:
                raise JournalFailed(self._failed)
            if self._syncing is None or self._syncing.done():
                self._syncing = asyncio.create_task(self._sync_once())
            await asyncio.shield(self._syncing)

    def rewrite(self, payloads: Iterable[bytes]) -> None:
        """Replaces the file by one that holds only these records, in one durable step."""
        fresh = self._path.with_suffix(".new")
        data = b"".join(encode(payload) for payload in payloads)
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, data)
            os.fdatasync(descriptor)
            fresh.rename(self._path)
            sync_folder(self._path)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(self._descriptor)
        self._descriptor = descriptor
        self.size = len(data)
        # Whatever was appended is in the new file, or was forgotten on purpose.
        self._synced = self._appended

    @property
    def syncing(self) -> bool:
        """Whether a sync is under way; the file may not be replaced meanwhile."""
        return self._syncing is not None and not self._syncing.done()

    def close(self) -> None:
        """Syncs and closes the file; a second time does nothing."""
        self._thread.shutdown(wait=True)
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    async def _sync_once(self) -> None:
        target = self._appended
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, os.fdatasync, self._descriptor)
        except OSError as exc:
            # After a failed fsync the kernel may have dropped the pages: nothing later can be
            # trusted.
            self._failed = f"the journal could not be synced: {exc}"
            raise JournalFailed(self._failed) from exc
        self._synced = max(self._synced, target)

    def _take_back(self, exc: OSError) -> None:
        """Removes half a record; anything but a full disk ends the use of the file."""
        try:
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
        except OSError as again:
            self._failed = f"the journal did not take a record: {again}"
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            self._failed = f"the journal did not take a record: {exc}"
        if self._failed:
            raise JournalFailed(self._failed) from exc

    def _free_ballast(self) -> bool:
        if not self._reserved:
            return False
        _log.error("journal: the disk is full; freeing the reserve of %d bytes", BALLAST_BYTES)
        self._reserved = False
        self._ballast.unlink(missing_ok=True)
        return True


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _allocate(path: Path) -> bool:
    """Reserves the ballast; tells whether it is there, which a full disk prevents."""
    if path.exists() and path.stat().st_size == BALLAST_BYTES:
        return True
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return False
    return True


def sync_folder(path: Path) -> None:
    """Makes a file's name durable."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
