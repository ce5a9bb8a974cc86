"""Named crash points, so that tests can end a process at an exact place.

``OPSCONDUCTOR_FAILPOINT=name:action[:nth]`` arms one point, read once at import and only when
``OPSCONDUCTOR_FAILPOINTS=1``; otherwise ``hit`` does nothing. Actions are ``kill9``, ``stop``
(freezes until SIGCONT) and ``raise``; ``nth`` (from 1, default 1) says at which passage.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ACTIONS = frozenset({"kill9", "stop", "raise"})


class FailpointReached(RuntimeError):
    """An armed failpoint with the action ``raise`` was passed."""


@dataclass(slots=True)
class Failpoint:
    """One armed crash point and how often it may still be passed."""

    name: str
    action: str
    remaining: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Failpoint | None:
        """Reads the armed point; raises ValueError for a setting that could never fire."""
        setting = environment.get("OPSCONDUCTOR_FAILPOINT", "")
        if environment.get("OPSCONDUCTOR_FAILPOINTS") != "1" or not setting:
            return None
        name, _, rest = setting.partition(":")
        action, _, nth = rest.partition(":")
        if not name or action not in _ACTIONS or not (nth or "1").isdecimal() or nth == "0":
            raise ValueError(
                f"OPSCONDUCTOR_FAILPOINT={setting!r}: expected name:action[:nth] "
                f"with an action of {', '.join(sorted(_ACTIONS))} and nth from 1"
            )
        return cls(name, action, int(nth or "1"))

    def hit(self, name: str) -> None:
        """Counts a passage and acts at the chosen one."""
        if name != self.name:
            return
        self.remaining -= 1
        if self.remaining == 0:
            self._act()

    def _act(self) -> None:
        if self.action == "raise":
            raise FailpointReached(self.name)
        os.kill(os.getpid(), signal.SIGKILL if self.action == "kill9" else signal.SIGSTOP)


_armed = Failpoint.from_environment(os.environ)


def hit(name: str) -> None:
    """Marks a place where a test may end the process; does nothing unless this point is armed."""
    if _armed is not None:
        _armed.hit(name)
