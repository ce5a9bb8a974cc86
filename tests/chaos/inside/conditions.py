"""Conditions of a run, not faults of the product: short waits, clocks that jump, lost pages."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

LEASE = float(os.environ.get("OPSC_CHAOS_LEASE", "2"))
HEARTBEAT = 0.5
START_TTL = 2


def set_existing(owner: Any, name: str, value: Any) -> None:
    """Sets an attribute that must be there."""
    getattr(owner, name)
    setattr(owner, name, value)


def _agents(module: ModuleType) -> None:
    set_existing(module, "HEARTBEAT_INTERVAL", timedelta(seconds=HEARTBEAT))
    set_existing(module, "SESSION_TIMEOUT", timedelta(seconds=LEASE))


def _session(module: ModuleType) -> None:
    set_existing(module, "START_TTL_SECONDS", START_TTL)


def _link(module: ModuleType) -> None:
    set_existing(module, "LONGEST_WAIT", 1.0)
    set_existing(module, "DUPLICATE_WAIT", 1.0)


def _journal(module: ModuleType) -> None:
    set_existing(module, "COMPACT_BYTES", 24 * 1024)


# Clocks


def _offset() -> float:
    try:
        return float(Path(os.environ["OPSC_CHAOS_CLOCK"]).read_text())
    except (OSError, ValueError, KeyError):
        return 0.0


_time = time.time


def _shift_time(_: ModuleType) -> None:
    time.time = lambda: _time() + _offset()


def _composition(module: ModuleType) -> None:
    def now() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=_offset())

    set_existing(module, "now", now)


def _boot(module: ModuleType) -> None:
    if path := os.environ.get("OPSC_CHAOS_BOOT"):
        set_existing(module, "_BOOT_ID", Path(path))


# A disk that loses what was not synced


class Recorder:
    """Writes down how much of the journal is on the disk, whatever the page cache holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fdatasync, self._fsync, self._rename = os.fdatasync, os.fsync, os.rename

    def arm(self) -> None:
        """Sees every sync and rename of this process from now on."""
        for name in ("fdatasync", "fsync", "rename"):
            setattr(os, name, getattr(self, name))

    def fdatasync(self, descriptor: int) -> None:
        self._synced(descriptor, self._fdatasync)

    def fsync(self, descriptor: int) -> None:
        self._synced(descriptor, self._fsync)

    def rename(self, source: Any, target: Any, **options: Any) -> None:
        """Keeps what the name meant before until the folder is synced."""
        name = Path(os.fspath(target))
        before = name.with_name("journal.previous")
        if name.name == "journal" and not before.exists():
            before.hardlink_to(name)
        self._rename(source, target, **options)

    def _synced(self, descriptor: int, sync: Callable[[int], None]) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        found = os.fstat(descriptor)
        sync(descriptor)
        with self._lock:
            if path.name in ("journal", "journal.new"):
                with path.with_name("journal.durable").open("a") as file:
                    file.write(f"{found.st_ino} {found.st_size}\n")
            elif path.is_dir():
                (path / "journal.previous").unlink(missing_ok=True)


def _record(_: ModuleType) -> None:
    Recorder().arm()


PATCHES: dict[str, dict[str, Callable[[ModuleType], None]]] = {
    "short": {
        "opsconductor.orchestrator.engine.agents": _agents,
        "opsconductor.orchestrator.servicers.agent_session": _session,
        "opsconductor.agent.session.link": _link,
        "opsconductor.agent.journal": _journal,
    },
    "clock": {"": _shift_time, "opsconductor.orchestrator.composition": _composition},
    "boot": {"opsconductor.agent.daemon": _boot},
    "recorder": {"": _record},
}
