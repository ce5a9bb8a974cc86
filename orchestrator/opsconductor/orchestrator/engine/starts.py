"""Starts of attempts: nobody waits for them, so they are written with whatever comes next."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opsconductor.orchestrator.engine.actor import is_granted
from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions import events as ev
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.memory import Memory
    from opsconductor.orchestrator.engine.work import Work
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

LAZY_FLUSH = 0.05  # seconds; written with the next commit or then
OTHERS_NOTE = 1.0  # seconds; who moves an execution hears of a start too, and should write it


class Starts:
    """Notes that agents began."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        memory: Memory,
        work: Work,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._engine = engine
        self._memory = memory
        self._work = work
        self._clock = clock

    async def note(self, event: ev.AttemptStarted, agent_id: str) -> None:
        """Takes a start; one that another orchestrator should write is looked at again later."""
        execution_id = await self._memory.execution_of(event.attempt_id)
        actor = self._memory.moving.get(execution_id)
        if actor is None:
            if self._store.shared:
                self._work.start_in(OTHERS_NOTE, lambda: self._write_for_others(event, agent_id))
            return
        async with actor.lock:
            if not is_granted(actor.state, event.attempt_id):
                return
            actor.note(event, self._clock())
        self._work.start_in(LAZY_FLUSH, lambda: self._write(execution_id))

    async def _write(self, execution_id: str) -> None:
        actor = self._memory.moving.get(execution_id)
        if actor and actor.unwritten:
            await self._engine.advance(execution_id)

    async def _write_for_others(self, event: ev.AttemptStarted, agent_id: str) -> None:
        """Writes a start that is still not known: who should have, may not hear the agent."""
        try:
            row = await self._store.attempt(event.attempt_id)
            if row is None or (row.state, row.agent_id) != ("granted", agent_id):
                return
            await self._engine.command(
                row.execution_id,
                lambda state, _: (event,) if is_granted(state, event.attempt_id) else (),
            )
        except OpsConductorError as exc:
            LOG.debug("the start of %s is not noted: %s", event.attempt_id, exc.message)
