"""Ctrl-C that comes while a program is being started: heard when it is known and can be ended."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class HeldBack:
    """Holds back what interrupts the demo, in the main thread: it comes to no other.

    An interrupt inside ``Popen`` would leave a process that nobody knows. The handlers are Python's
    own, so programs that are started meanwhile do not inherit them.
    """

    def __enter__(self) -> Self:
        self._noted = False
        here = threading.current_thread() is threading.main_thread()
        heard = [
            number for number in _SIGNALS if here and signal.getsignal(number) != signal.SIG_IGN
        ]
        self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        self.let_through()

    def let_through(self) -> None:
        """Lets interrupts act again; raises KeyboardInterrupt for one that came meanwhile."""
        while self._before:
            signal.signal(*self._before.popitem())
        if self._noted:
            self._noted = False
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True
