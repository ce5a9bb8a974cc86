"""Says whether an order may still start: only in its own session, and only while fresh.

Nothing here compares clocks of two machines: the time is this machine's, counted through suspend,
from the moment a heartbeat was sent that the orchestrator has received.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.agent.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsconductor.agent.order import Order

_REMEMBERED = 64


class Fence:
    """Heartbeats sent in the current session, and which the orchestrator has received."""

    def __init__(self, boottime: Callable[[], float]) -> None:
        self._boottime = boottime
        self._sent: dict[int, float] = {}
        self._confirmed = 0
        self.epoch = 0

    def begin(self, epoch: int, hello_sent: float) -> None:
        """Starts a session; its Hello counts as heartbeat 0."""
        self.epoch = epoch
        self._sent = {0: hello_sent}
        self._confirmed = 0

    def sent(self, number: int) -> None:
        """Notes that a heartbeat is about to be sent."""
        self._sent[number] = self._boottime()
        self._sent.pop(number - _REMEMBERED, None)

    def confirmed(self, number: int) -> None:
        """Notes that the orchestrator has received a heartbeat."""
        if number in self._sent:
            self._confirmed = max(self._confirmed, number)

    def check(self, order: Order) -> None:
        """Raises Refusal when the order is of another session or too old to start."""
        if order.session_epoch != self.epoch:
            raise stale(order, f"session {self.epoch}")
        # Grants are taken back over the same stream as echoes, so a later echo vouches for them.
        beat = max(order.beat, self._confirmed)
        age = self._boottime() - self._sent.get(beat, float("-inf"))
        if age >= order.start_ttl:
            raise Refusal(
                "START_TTL_EXPIRED",
                f"the orchestrator's last proof of life was {age:.1f} s ago, the order may start "
                f"within {order.start_ttl:g} s",
            )


class Fences:
    """The fence of each session; an order is judged by the one it was granted for, and no other."""

    def __init__(self, boottime: Callable[[], float]) -> None:
        self._boottime = boottime
        self._fences: list[Fence] = []

    def new(self) -> Fence:
        """Returns a fence for one more connection, shut until its first session begins."""
        fence = Fence(self._boottime)
        self._fences.append(fence)
        return fence

    def drop(self, fence: Fence) -> None:
        """Forgets the fence of a connection that is given up: nothing granted for it may start."""
        self._fences.remove(fence)

    @property
    def epoch(self) -> int:
        """The newest session."""
        return max((fence.epoch for fence in self._fences), default=0)

    def check(self, order: Order) -> None:
        """Raises Refusal when the order is of a session that is over, or too old to start."""
        for fence in self._fences:
            if fence.epoch == order.session_epoch and fence.epoch:
                return fence.check(order)
        open_now = ", ".join(str(fence.epoch) for fence in self._fences if fence.epoch) or "none"
        raise stale(order, f"session {open_now}")


def stale(order: Order, here: str) -> Refusal:
    """Returns why an order of another session is not obeyed."""
    return Refusal(
        "STALE_EPOCH",
        f"granted for session {order.session_epoch}, this agent is in {here}",
    )
