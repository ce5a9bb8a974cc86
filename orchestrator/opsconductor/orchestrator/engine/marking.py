"""Marking: keeps beside the store how far it had come, and notices when it goes back."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.restoring import Restoring
    from opsconductor.orchestrator.store.mark import Mark
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds


class Marking:
    """Looks at the store by the mark: before anything is written to it, then once a second.

    It cannot see what was lost of the last second before the machine lost power, nor what others
    wrote in that second, nor anything when all data directories are put back with the database.
    """

    def __init__(self, store: Store, restoring: Restoring, engine: Engine, mark: Mark) -> None:
        self._store = store
        self._restoring = restoring
        self._engine = engine
        self._mark = mark
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Compares, then counts what this orchestrator writes. Comes before any session."""
        # Safe mode is written by a transaction that is counted: it never stays behind the count.
        self._store.count_with(self._mark)
        await self._restoring.measure(self._mark)
        await self._store.commit()  # so that a count that was behind is so no longer
        self._mark.went_back = False
        await self._mark.sync()
        self._task = asyncio.create_task(self._run(), name="store-mark")

    async def stop(self) -> None:
        """Makes durable what was seen last."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._mark.sync()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self._look()
            except OpsConductorError as exc:
                LOG.warning("the mark is looked at again soon: %s", exc.message)

    async def _look(self) -> None:
        mark = self._mark
        if mark.went_back:
            mark.went_back = False
            self._engine.went_back("it has lost a transaction that it had confirmed")
        if self._store.shared or mark.incarnation != self._store.incarnation:
            await self._restoring.measure(mark)
        await mark.sync()
