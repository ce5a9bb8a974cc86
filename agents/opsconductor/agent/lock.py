"""One process per agent folder: two with the same journal would each start the same work."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class FolderLocked(OpsConductorError):
    """Another agent process uses the folder."""

    reason = "FOLDER_LOCKED"
    code = "FAILED_PRECONDITION"


class FolderLock:
    """Holds ``agent.lock`` for the life of the process; the kernel always lets go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1

    def __enter__(self) -> FolderLock:
        """Takes the lock; raises FolderLocked naming the process that has it."""
        path = self._folder / "agent.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise FolderLocked(
                f"another agent process (pid {holder}) holds {self._folder}"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Lets go of the lock."""
        os.close(self._descriptor)
