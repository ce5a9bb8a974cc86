"""Doubts: commits whose end was not seen. What they left to be done is looked for soon after."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opsconductor.orchestrator.store.base import ChainBroken
from opsconductor.rpc.errors import NotFound, OpsConductorError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from opsconductor.orchestrator.engine.actor import Actor
    from opsconductor.orchestrator.engine.memory import Memory
    from opsconductor.orchestrator.engine.work import Work

LOG = logging.getLogger(__name__)

LOOKED_AT_AFTER = 1.0  # seconds


class Doubts:
    """Executions that may have been moved without anybody knowing.

    Whoever asked was told that it failed and may never come again; but if it was written, then
    there may be attempts nobody was sent and steps nobody looks at.
    """

    def __init__(
        self,
        work: Work,
        memory: Memory,
        go_on: Callable[[Actor], Coroutine[None, None, object]],
        went_back: Callable[[str], None],
    ) -> None:
        """Calls ``went_back`` with the reason when the store has lost what it had confirmed."""
        self._work = work
        self._memory = memory
        self._go_on = go_on
        self._went_back = went_back
        self._open: set[str] = set()

    def after(self, error: BaseException, execution_id: str) -> None:
        """Looks for what a failed commit left; what the store refused was surely not written."""
        if isinstance(error, ChainBroken):
            self._went_back(error.message)
        elif isinstance(error, StoreUnavailable) or not isinstance(error, OpsConductorError):
            self._look_soon(execution_id)

    def _look_soon(self, execution_id: str) -> None:
        if execution_id not in self._open:
            self._open.add(execution_id)
            self._work.start_in(LOOKED_AT_AFTER, lambda: self._look(execution_id))

    async def _look(self, execution_id: str) -> None:
        self._open.discard(execution_id)
        try:
            actor = await self._memory.find(execution_id)
            actor.doubtful = True
            await self._work.to_its_end(self._go_on(actor))
        except NotFound:
            return  # it was not written
        except OpsConductorError as exc:
            LOG.warning("execution %s is looked at again later: %s", execution_id, exc.message)
            self._look_soon(execution_id)
