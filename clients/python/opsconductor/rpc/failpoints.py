"""Named crash points, so that tests can fail a process at an exact place.

``OPSCONDUCTOR_FAILPOINT=name:action[:nth]`` arms one point, several separated by commas, read once
at import and only when ``OPSCONDUCTOR_FAILPOINTS=1``; otherwise ``hit`` does nothing. ``nth`` (from
1, default 1) says at which passage. Actions: ``kill9``; ``stop`` (freezes until SIGCONT);
``raise``; ``enospc`` and ``eio`` (the OSError of a full or a broken disk); ``sleep<ms>``. What
acted is noted in the file that ``OPSCONDUCTOR_FAILPOINT_LOG`` names, if any.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ACTION = re.compile(r"kill9|stop|raise|enospc|eio|sleep[0-9]{1,6}")
_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}


class FailpointReached(RuntimeError):
    """An armed failpoint with the action ``raise`` was passed."""


@dataclass(slots=True)
class Failpoint:
    """One armed crash point and how often it may still be passed."""

    name: str
    action: str
    remaining: int
    log: str = ""

    @classmethod
    def read(cls, setting: str, log: str = "") -> Failpoint:
        """Reads ``name:action[:nth]``; raises ValueError for what could never fire."""
        name, _, rest = setting.partition(":")
        action, _, nth = rest.partition(":")
        if not name or not _ACTION.fullmatch(action) or not (nth or "1").isdecimal() or nth == "0":
            raise ValueError(
                f"OPSCONDUCTOR_FAILPOINT={setting!r}: expected name:action[:nth] with an action of "
                "kill9, stop, raise, enospc, eio or sleep<ms>, and nth from 1"
            )
        return cls(name, action, int(nth or "1"), log)

    def hit(self, name: str) -> None:
        """Counts a passage and acts at the chosen one."""
        if name != self.name:
            return
        self.remaining -= 1
        if self.remaining == 0:
            self._act()

    def _act(self) -> None:
        if self.log:
            descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(descriptor, f"{self.name}:{self.action}\n".encode())
            os.close(descriptor)
        if self.action == "raise":
            raise FailpointReached(self.name)
        if number := _ERRORS.get(self.action):
            raise OSError(number, f"{os.strerror(number)} (failpoint {self.name})")
        if self.action.startswith("sleep"):
            time.sleep(int(self.action.removeprefix("sleep")) / 1000)
            return
        os.kill(os.getpid(), signal.SIGKILL if self.action == "kill9" else signal.SIGSTOP)


def from_environment(environment: Mapping[str, str]) -> tuple[Failpoint, ...]:
    """Reads the armed points; raises ValueError for a setting that could never fire."""
    settings = environment.get("OPSCONDUCTOR_FAILPOINT", "")
    if environment.get("OPSCONDUCTOR_FAILPOINTS") != "1" or not settings:
        return ()
    log = environment.get("OPSCONDUCTOR_FAILPOINT_LOG", "")
    return tuple(Failpoint.read(setting, log) for setting in settings.split(","))


_armed = from_environment(os.environ)


def hit(name: str) -> None:
    """Marks a place where a test may fail the process; does nothing unless this point is armed."""
    for point in _armed:
        point.hit(name)
