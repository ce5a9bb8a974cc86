"""The mark: how far the store had come, kept beside it in the data directory.

A store that is put back to an older state knows fewer transactions than the mark. The mark cannot
show it when the data directory is put back together with the database.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from opsconductor.orchestrator.store.base import CountCommit
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from opsconductor.orchestrator.store.base import Outcome

LOG = logging.getLogger(__name__)

COUNTS = "count/"
"""Begin of keys in ``meta``: how many transactions there were of one data directory."""
_SLOT = 4096
_SLOTS = 2
"""Written in turn: one that a power cut tore leaves the other."""


class Slots(Protocol):
    """A small file that keeps the newest of what was written."""

    def read(self) -> list[bytes]:
        """Returns what the slots hold."""

    def write(self, slot: int, data: bytes) -> None:
        """Writes at once, but not yet durably: it outlives this process, not the machine."""

    async def sync(self) -> None:
        """Makes durable what was written."""


class MarkFile:
    """A file in the data directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise StoreUnavailable(f"cannot open {path}: {exc.strerror}") from exc

    def read(self) -> list[bytes]:
        """See ``Slots``."""
        try:
            return [os.pread(self._file, _SLOT, slot * _SLOT) for slot in range(_SLOTS)]
        except OSError as exc:
            raise StoreUnavailable(f"cannot read {self._path}: {exc.strerror}") from exc

    def write(self, slot: int, data: bytes) -> None:
        """See ``Slots``."""
        os.pwrite(self._file, data.ljust(_SLOT, b"\0"), slot * _SLOT)

    async def sync(self) -> None:
        """See ``Slots``."""
        await asyncio.to_thread(os.fdatasync, self._file)

    def close(self) -> None:
        """Makes durable what was written, and closes the file."""
        with suppress(OSError):
            os.fdatasync(self._file)
        os.close(self._file)


class Mark:
    """What this data directory has seen of the store; only what was acknowledged counts."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._serial = 0
        self._dirty = False
        self.name = secrets.token_hex(8)
        """Random name of the data directory: each counts its own transactions."""
        self.incarnation = ""
        """Of the store that was seen last; empty before the first."""
        self.count = 0
        """Number of the newest transaction of this data directory."""
        self.total = 0
        """The most transactions of all orchestrators together that were seen."""
        self.went_back = False
        """Whether the store was found older than this while it was in use."""
        self._read()

    def behind(self, values: Mapping[str, str], count: int) -> str:
        """Says what a store, of the same incarnation, does not know; empty when all is well.

        The count is that from before the store was read.
        """
        known = int(values.get(COUNTS + self.name, 0))
        if known < count:
            return (
                f"this orchestrator's data directory has seen its transaction {count}, this "
                f"store only knows {known}"
            )
        known = total_of(values)
        if known < self.total:
            return (
                f"this orchestrator's data directory has seen {self.total} transactions, this "
                f"store only knows {known}"
            )
        return ""

    def follow(self, incarnation: str, values: Mapping[str, str]) -> None:
        """Goes on with a store that is trusted, as it is now."""
        if incarnation != self.incarnation:
            self.incarnation, self.total = incarnation, 0
        self.total = max(self.total, total_of(values))
        self._write()

    def next_commit(self) -> CountCommit:
        """Returns what counts a transaction, as its last operation."""
        return CountCommit(self.name, self.count)

    def acknowledged(self, counted: Outcome) -> None:
        """Takes what became of ``next_commit``."""
        if isinstance(counted, list):
            self.count = counted[0].count
            self.went_back = self.went_back or counted[0].went_back
            self._write()

    async def sync(self) -> None:
        """Makes durable what is new since the last time."""
        if self._dirty:
            self._dirty = False
            try:
                await self._slots.sync()
            except OSError as exc:
                self._dirty = True
                LOG.warning("the mark of the store cannot be kept: %s", exc)

    def _write(self) -> None:
        self._serial += 1
        body = canonical.dumps(
            {
                "v": 1,
                "serial": self._serial,
                "name": self.name,
                "incarnation": self.incarnation,
                "count": self.count,
                "total": self.total,
            }
        )
        try:
            self._slots.write(self._serial % _SLOTS, _sum(body) + b" " + body)
        except OSError as exc:
            LOG.warning("the mark of the store cannot be kept: %s", exc)
        self._dirty = True

    def _read(self) -> None:
        slots = [slot.rstrip(b"\0") for slot in self._slots.read()]
        found = [data for slot in slots if (data := _parse(slot)) is not None]
        if not found:
            if any(slots):
                LOG.error("the mark of the store is damaged: it starts anew")
            return
        newest = max(found, key=lambda data: data["serial"])
        self._serial, self.name = newest["serial"], newest["name"]
        self.incarnation = newest["incarnation"]
        self.count, self.total = newest["count"], newest["total"]


def total_of(values: Mapping[str, str]) -> int:
    """Returns how many transactions of all orchestrators a store knows."""
    return sum(int(value) for key, value in values.items() if key.startswith(COUNTS))


def _sum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()


def _parse(slot: bytes) -> dict[str, Any] | None:
    said, _, body = slot.partition(b" ")
    if not body or said != _sum(body):
        return None
    data: dict[str, Any] = canonical.loads(body)
    return data
