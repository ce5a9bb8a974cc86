"""This orchestrator among those that share the store: its name, and how long it may act for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.rpc import ids

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

LEASE = timedelta(seconds=10)
"""A replica that did not renew for so long loses what it moves to others."""


@dataclass
class Replica:
    """One orchestrator process; the only one of its store, which may always act, unless shared.

    The others judge by the database's clock whether it lives. It judges itself by its own count of
    time through suspend, from before it asked: so it stops acting before others may begin, and
    notices at once when it was frozen.
    """

    shared: bool = False
    """Whether there may be others."""
    boottime: Callable[[], float] = lambda: 0.0
    """Seconds on a clock that never jumps and counts suspend."""
    address: str = ""
    """Where agents and clients reach it, host:port."""
    lease: timedelta = LEASE
    replica_id: str = ""
    """Random at each start, and when it was given up by the others."""
    endpoints: tuple[str, ...] = ()
    """Where all of them are reached, this one included; empty while it is alone."""
    _renewed: float = float("-inf")

    def rename(self, now: datetime) -> str:
        """Takes a new id, under which it holds nothing yet; returns it."""
        self._renewed = float("-inf")
        self.replica_id = ids.mint("rep", now)
        return self.replica_id

    def renewed(self, asked: float) -> None:
        """Notes that the store let it live on when asked at this moment of its own clock."""
        self._renewed = asked

    def release(self) -> None:
        """Stops acting for good, or until it has a new name."""
        self._renewed = float("-inf")

    def may_move(self, owner: str) -> bool:
        """Tells whether an execution of this owner is its to move, beyond doubt."""
        return not self.shared or (owner == self.replica_id and self.may_act())

    def may_act(self) -> bool:
        """Tells whether no other can have taken over yet."""
        if not self.shared:
            return True
        return self.boottime() - self._renewed < self.lease.total_seconds()
