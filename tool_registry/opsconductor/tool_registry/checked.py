"""Remembers tool files that have passed every check, so that each start does not check them again.

A file is known by the SHA-256 of its bytes; what is kept is its parsed content, as JSON in the
user's cache folder. The name of the cache holds the state of this package's own code, so a changed
check forgets everything. A cache that cannot be read or written costs time, nothing else; one that
somebody else could have written is not read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent
_KEPT = 4
"""Caches that stay, so that versions used side by side do not drive each other out."""


class CheckedFiles:
    """Definitions by the digest of their file's bytes."""

    def __init__(self, folder: Path | None = None) -> None:
        self._file = (folder or _cache_folder()) / f"tools-{_code()}.json"
        self._known: dict[str, dict[str, Any]] = {}
        self._changed = False
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(_own(self._file))
            self._known = known if isinstance(known, dict) else {}

    def get(self, data: bytes) -> dict[str, Any] | None:
        """Returns the definition of a file that passed, None when it is not known."""
        return self._known.get(hashlib.sha256(data).hexdigest())

    def add(self, data: bytes, definition: dict[str, Any]) -> None:
        """Remembers a file that passed."""
        self._known[hashlib.sha256(data).hexdigest()] = definition
        self._changed = True

    def save(self) -> None:
        """Writes what is new, for the next start."""
        if not self._changed:
            return
        with contextlib.suppress(OSError, ValueError, TypeError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile("w", dir=self._file.parent, delete=False) as new:
                json.dump(self._known, new)
            os.replace(new.name, self._file)  # noqa: PTH105 - atomic, whoever else writes
            _forget_old(self._file.parent)


def _own(file: Path) -> bytes:
    """Returns a file's content; OSError when others own it or may write it."""
    with file.open("rb") as opened:
        status = os.fstat(opened.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(f"{file} can be written by others")
        return opened.read()


def _forget_old(folder: Path) -> None:
    """Removes what earlier states of the code left, but for the newest few."""
    found = sorted(folder.glob("tools-*.json"), key=_age)
    for file in found[:-_KEPT]:
        file.unlink(missing_ok=True)


def _age(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:  # another process has just removed it
        return 0.0


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "opsconductor"


def _code() -> str:
    """Returns a digest of the state of everything that checks."""
    state = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*.*")):
        if "__pycache__" in file.parts:  # others compile there at this moment
            continue
        status = file.stat()
        state.update(
            f"{file.relative_to(_PACKAGE)}:{status.st_size}:{status.st_mtime_ns}\n".encode()
        )
    return state.hexdigest()[:16]
