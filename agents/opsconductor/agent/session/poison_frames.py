"""Frames that made no sense, kept for a person to look at."""

from __future__ import annotations

import logging
import os
import secrets
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import ProtocolError

if TYPE_CHECKING:
    from pathlib import Path

FRAMES_KEPT = 16

_log = logging.getLogger(__name__)


class UnreadableFrame(ProtocolError):
    """A frame nothing can be made of; it changes nothing and ends its session."""

    def __init__(self, frame: bytes, message: str) -> None:
        super().__init__(message)
        self.frame = frame


class PoisonFrames:
    """A folder that holds the newest frames the agent could not make anything of."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, frame: bytes) -> None:
        """Stores a frame's bytes; on a full disk it is only logged that they are lost."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._make_room()
            path = self._folder / f"{self._next_number():08d}-{secrets.token_hex(4)}.frame"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(frame)
        except OSError as exc:
            _log.error("a frame of %d bytes could not be kept: %s", len(frame), exc)
        else:
            _log.error("a frame of %d bytes made no sense; it is kept in %s", len(frame), path)

    def _kept(self) -> list[Path]:
        return sorted(self._folder.glob("*.frame"))

    def _next_number(self) -> int:
        kept = self._kept()
        number = kept[-1].name.partition("-")[0] if kept else "0"
        return int(number) + 1 if number.isdecimal() else 1

    def _make_room(self) -> None:
        kept = self._kept()
        for path in kept[: max(len(kept) - FRAMES_KEPT + 1, 0)]:
            path.unlink(missing_ok=True)
