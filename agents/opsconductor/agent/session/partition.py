"""Ends what runs when the agent has been cut off from every orchestrator for too long."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from opsconductor.agent.session.switchboard import Switchboard
    from opsconductor.agent.worker import Worker

LOOK_INTERVAL = 1.0
"""Seconds between looks at the time; a sleep does not count while the machine is suspended."""

_log = logging.getLogger(__name__)


class Partition:
    """Watches how long the agent has been alone; only made when it may not go on for ever."""

    def __init__(self, board: Switchboard, worker: Worker, stop_after: timedelta) -> None:
        self._board = board
        self._worker = worker
        self._limit = stop_after.total_seconds()

    async def watch(self) -> None:
        """Cancels what runs each time the limit is reached; until cancelled."""
        while True:
            await self._board.until_alone()
            if self._board.alone_for < self._limit:
                await asyncio.sleep(min(LOOK_INTERVAL, self._limit - self._board.alone_for))
                continue
            reason = (
                f"this agent has had no session with any orchestrator for {self._limit:g} s "
                "(on_partition: stop_after)"
            )
            _log.error("%s; ending %d running attempts", reason, self._worker.running)
            for report in self._worker.reports():
                if not report.final:
                    self._worker.cancel(report.attempt_id, reason, "PARTITIONED")
            await self._board.until_connected()
