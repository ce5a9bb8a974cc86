"""The tape: every frame that went over a control stream, to be delivered once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

    from simulation.network import Call, Network

KINDS = {"down": ("assign", "cancel", "report_ack"), "up": ("report",)}


class Tape:
    """Records frames and replays them over what connections there are."""

    def __init__(self, network: Network, rng: random.Random) -> None:
        self._network = network
        self._rng = rng
        self._frames: dict[str, list[tuple[str, bytes]]] = {"down": [], "up": []}
        self._undelivered: dict[tuple[str, str, int], tuple[str, bytes]] = {}

    def sent(self, call: Call, way: str, frame: Any) -> None:
        """Records a frame as it is sent."""
        kind = frame.WhichOneof("frame")
        if kind not in KINDS[way]:
            return
        data = frame.SerializeToString()
        self._frames[way].append((call.agent, data))
        if kind == "assign":
            order = frame.assign
            self._undelivered[call.agent, order.attempt_id, order.session_epoch] = call.agent, data

    def arrived(self, agent: str, order: Any) -> None:
        """Notes that an order has reached its agent."""
        self._undelivered.pop((agent, order.attempt_id, order.session_epoch), None)

    def replay(self) -> None:
        """Delivers a recent frame again, or for the first time."""
        rng = self._rng
        lost, frames = list(self._undelivered.values()), self._frames["down"]
        frames = lost if lost and rng.random() < 0.5 else frames
        if frames:
            agent, data = frames[rng.randrange(max(len(frames) - 40, 0), len(frames))]
            self.deliver(agent, "down", data)

    def sample(self, most: int, *, reports: bool) -> list[tuple[str, str, bytes]]:
        """Returns frames that were sent, a random part of them if there are too many."""
        ways = ("down", "up") if reports else ("down",)
        frames = [(agent, way, data) for way in ways for agent, data in self._frames[way]]
        return self._rng.sample(frames, min(most, len(frames)))

    def deliver(self, agent: str, way: str, data: bytes) -> None:
        """Delivers a frame over one of an agent's open sessions, if it has any."""
        calls = [
            call
            for (name, _), path in self._network.paths.items()
            if name == agent
            for call in path.calls
            if call.name == "Control"
        ]
        if calls:
            call = self._rng.choice(calls)
            (call.down if way == "down" else call.up).inject(data)
