"""One process per SQLite file, held by a lock the kernel releases when the process ends."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import StoreLocked

if TYPE_CHECKING:
    from pathlib import Path


class FileLock:
    """Holds ``<database>.lock`` from its making until ``release``."""

    def __init__(self, database: Path) -> None:
        """Takes the lock; raises StoreLocked naming the file when another process has it."""
        self._path = database.with_name(database.name + ".lock")
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.read(self._file, 32).decode(errors="replace").strip()
            os.close(self._file)
            raise StoreLocked(
                f"{database} is in use by another process"
                + (f" (pid {holder})" if holder.isdecimal() else "")
                + f", which holds {self._path}: stop it, or give this one a database of its own",
                metadata={"path": str(database)},
            ) from exc
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Gives the lock back; the file stays, for removing it would race with the next holder."""
        os.close(self._file)
