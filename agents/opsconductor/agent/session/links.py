"""One link for each orchestrator that is known, added as they are named."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from opsconductor.agent.session import tasks
from opsconductor.agent.session.link import Link
from opsconductor.rpc.channel import keep_engine

if TYPE_CHECKING:
    from opsconductor.agent.session.shared import Shared


class Links:
    """All connections of the agent."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._running: dict[str, asyncio.Task[None]] = {}

    @property
    def connected(self) -> bool:
        """Whether any session is open."""
        return self._shared.board.connected

    def announce_draining(self) -> None:
        """Tells every orchestrator, now if connected and else at the next connect."""
        self._shared.board.announce_draining()

    async def run(self) -> None:
        """Keeps every link alive until cancelled; raises what must end the agent."""
        async with keep_engine():
            await self._keep_alive()

    async def _keep_alive(self) -> None:
        try:
            while True:
                changed = asyncio.create_task(self._shared.endpoints.change.wait())
                try:
                    await self._match()
                    running = set(self._running.values())
                    await asyncio.wait({changed, *running}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    await tasks.end(changed)
                for link in running:
                    if link.done():
                        link.result()
        finally:
            await tasks.end(*self._running.values())

    async def _match(self) -> None:
        """Starts links to endpoints that are new, ends those to forgotten ones."""
        wanted = list(self._shared.endpoints)
        for endpoint in wanted:
            if endpoint not in self._running:
                link = Link(endpoint, self._shared)
                self._running[endpoint] = asyncio.create_task(link.run())
        forgotten = [endpoint for endpoint in self._running if endpoint not in wanted]
        await tasks.end(*(self._running.pop(endpoint) for endpoint in forgotten))
