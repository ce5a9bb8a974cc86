"""An agent's disk: what was written survives its process, only what was synced survives its power.

Stands in for the files below the real ``Journal`` and ``Spools``, which run unchanged on top.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.agent.record_log import JournalFailed, JournalFull
from opsconductor.agent.spooled_stream import SpooledStream

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Iterator

    from simulation.virtual_loop import VirtualLoop


class Disk:
    """What one agent's folder holds."""

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        self.loop = loop
        self.rng = rng
        self.records: list[bytes] = []
        self.synced = 0
        self.full = False
        self.broken = False
        self.sync_seconds = (0.0003, 0.004)
        self.output: dict[str, bytearray] = {}
        self.output_synced: dict[str, int] = {}
        """How much of each output no power loss can take any more."""
        self.files: dict[str, str] = {}
        """Small files by name."""
        self.runs: dict[str, bytes] = {}
        """What is kept of supervised runs, by attempt."""
        self.taken: dict[str, tuple[int, int, int]] = {}
        """How much of a supervised run's output was moved to the spool, by attempt."""
        self.on_record: Callable[[dict[str, Any]], None] = lambda _: None

    def lose_power(self) -> None:
        """Keeps what was synced, and as much of the rest as luck has it."""
        kept = self.rng.randint(self.synced, len(self.records))
        del self.records[kept:]
        self.synced = len(self.records)
        for name, data in self.output.items():
            del data[self.rng.randint(min(self.output_synced.get(name, 0), len(data)), len(data)) :]

    def wipe(self) -> None:
        """Loses the journal and all output."""
        self.records.clear()
        self.synced = 0
        self.output.clear()
        self.runs.clear()


class DiskLog:
    """Takes the place of ``RecordLog``; the path it is opened with is the disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._failed = ""
        self.size = sum(len(record) for record in disk.records)

    @classmethod
    def open(cls, path: Any) -> tuple[DiskLog, list[bytes]]:
        """See RecordLog."""
        disk: Disk = path
        return cls(disk), list(disk.records)

    @property
    def syncing(self) -> bool:
        """See RecordLog."""
        return False

    def append(self, payload: bytes, *, urgent: bool = False) -> None:
        """See RecordLog; an urgent record takes the reserve of a full disk."""
        if self._failed:
            raise JournalFailed(self._failed)
        if self._disk.full and not urgent:
            raise JournalFull("the disk is full: simulated")
        self._disk.records.append(payload)
        self.size += len(payload)
        self._disk.on_record(json.loads(payload))

    async def sync(self) -> None:
        """See RecordLog; takes its time, and may fail for good."""
        if self._failed:
            raise JournalFailed(self._failed)
        disk = self._disk
        target = len(disk.records)
        if disk.synced >= target:
            return
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        disk.loop.later(disk.rng.uniform(*disk.sync_seconds), _finish, disk, target, done)
        if not await done:
            self._failed = "the journal could not be synced: simulated EIO"
            raise JournalFailed(self._failed)

    def rewrite(self, payloads: Iterable[bytes]) -> None:
        """See RecordLog."""
        self._disk.records = list(payloads)
        self._disk.synced = len(self._disk.records)
        self.size = sum(len(record) for record in self._disk.records)

    def restore_reserve(self) -> bool:
        """See RecordLog."""
        return not self._disk.full

    def close(self) -> None:
        """See RecordLog."""


def _finish(disk: Disk, target: int, done: asyncio.Future[bool]) -> None:
    if not disk.broken:
        disk.synced = max(disk.synced, min(target, len(disk.records)))
    if not done.done():
        done.set_result(not disk.broken)


class Runs:
    """Takes the place of ``RunFolders``; a run's folder is its attempt's id on this disk."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def of(self, attempt_id: str) -> Run:
        """See RunFolders."""
        return Run(self.disk, attempt_id)

    def keep(self, attempt_id: str, kept: bytes) -> Run:
        """See RunFolders."""
        if self.disk.full:
            raise OSError(28, "simulated ENOSPC")
        self.disk.runs[attempt_id] = kept
        return self.of(attempt_id)

    def kept(self, attempt_id: str) -> bytes:
        """See RunFolders."""
        if attempt_id not in self.disk.runs:
            raise FileNotFoundError(attempt_id)
        return self.disk.runs[attempt_id]

    def remove(self, attempt_id: str) -> None:
        """See RunFolders."""
        self.disk.runs.pop(attempt_id, None)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.disk.runs))


@dataclass(frozen=True)
class Run:
    """Takes the place of ``RunFolder``."""

    disk: Disk
    attempt_id: str


class RunSink:
    """Takes the place of ``TakingSink``: passes output on, and knows over restarts how much."""

    def __init__(self, folder: Run, spool: Any, redactors: Any) -> None:
        self._folder = folder
        self._spool = spool
        self._redactor = redactors["stdout"]
        self._raw = self.position("stdout")

    async def write(self, stream: Any, data: bytes) -> None:
        """See TakingSink."""
        self._raw += len(data)
        await self._move(stream, self._redactor.feed(data), self._raw - self._redactor.held)

    async def flush(self, *, whole: bool) -> None:
        """See TakingSink."""
        await self._move("stdout", self._redactor.finish(whole=whole), self._raw)

    async def _move(self, stream: Any, done: bytes, raw: int) -> None:
        taken, key = self._folder.disk.taken, self._folder.attempt_id
        if done:
            # A kill between the two leaves what tells whether the output was stored.
            taken[key] = (
                self.position(stream),
                raw,
                self._spool.streams[stream].length + len(done),
            )
            await self._spool.write(stream, done)
        taken[key] = (raw, raw, 0)

    def position(self, stream: Any) -> int:
        """See TakingSink."""
        before, after, length = self._folder.disk.taken.get(self._folder.attempt_id, (0, 0, 0))
        return after if self._spool.streams[stream].length >= length else before

    def miss(self, stream: Any, count: int) -> None:
        """See TakingSink."""

    def close(self) -> None:
        """See TakingSink."""


class SmallFile:
    """A file that is read and written as a mapping."""

    def __init__(self, disk: Disk, name: str) -> None:
        self.disk = disk
        self.name = name


class Folder:
    """The spool's folder on a disk; as much of a path as ``Spools`` uses."""

    def __init__(self, disk: Disk, name: str = "") -> None:
        self.disk = disk
        self.name = name

    def mkdir(self, **_: Any) -> None:
        """Is always there."""

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.disk, name)

    def iterdir(self) -> Iterator[Folder]:
        """Yields the files."""
        return iter([Folder(self.disk, name) for name in sorted(self.disk.output)])

    def __lt__(self, other: Folder) -> bool:
        return self.name < other.name


class DiskStream(SpooledStream):
    """Takes the place of ``SpooledStream``."""

    _path: Any

    def append(self, data: bytes) -> None:
        """See SpooledStream."""
        if self._path.disk.full:
            raise OSError(28, "simulated ENOSPC")
        self._path.disk.output.setdefault(self._path.name, bytearray()).extend(data)
        self._sha256.update(data)
        self.length += len(data)

    def recover(self) -> None:
        """See SpooledStream."""
        data = self._path.disk.output.get(self._path.name, b"")
        self._sha256.update(data)
        self.length = len(data)

    def read(self, offset: int, limit: int) -> bytes:
        """See SpooledStream."""
        data = self._path.disk.output.get(self._path.name, b"")
        return bytes(data[offset : min(offset + limit, self.length)])

    def sync(self) -> None:
        """See SpooledStream."""
        self._path.disk.output_synced[self._path.name] = self.length

    def close(self) -> None:
        """See SpooledStream."""

    def remove(self) -> None:
        """See SpooledStream."""
        self._path.disk.output.pop(self._path.name, None)


class DiskSlots:
    """Takes the place of ``MarkFile``: the orchestrators' machines never lose power."""

    def __init__(self) -> None:
        self._slots: dict[int, bytes] = {}

    def read(self) -> list[bytes]:
        """See Slots."""
        return list(self._slots.values())

    def write(self, slot: int, data: bytes) -> None:
        """See Slots."""
        self._slots[slot] = data

    async def sync(self) -> None:
        """See Slots."""
