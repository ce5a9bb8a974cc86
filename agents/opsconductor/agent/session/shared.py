"""What every connection of one agent works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

    from opsconductor.agent.fence import Fences
    from opsconductor.agent.journal import Journal
    from opsconductor.agent.output import Spools
    from opsconductor.agent.poison import Poison
    from opsconductor.agent.session.endpoints import Endpoints
    from opsconductor.agent.session.inventory import InventoryQueries
    from opsconductor.agent.session.poison_frames import PoisonFrames
    from opsconductor.agent.session.switchboard import Switchboard
    from opsconductor.agent.worker import Worker


class Certificates(Protocol):
    """Opens channels with the agent's newest certificate."""

    def open_channel(self, endpoint: str) -> grpc.aio.Channel:
        """Opens a channel."""

    async def renew_when_due(self, channel: grpc.aio.Channel) -> None:
        """Returns after a renewal, when a new connection should be made."""


@dataclass(frozen=True, slots=True)
class Shared:
    """One worker, one journal, one set of spools, however many orchestrators there are."""

    certificates: Certificates
    endpoints: Endpoints
    worker: Worker
    journal: Journal
    spools: Spools
    fences: Fences
    inventory: InventoryQueries
    board: Switchboard
    poison: Poison
    poison_frames: PoisonFrames
    facts: Callable[[], dict[str, Any]]
    """What a Hello says about the agent now."""
