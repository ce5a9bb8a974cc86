"""History: what is on record about executions, for reading and watching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions.fold import apply
from opsconductor.orchestrator.engine import log
from opsconductor.orchestrator.engine.listeners import heard_within
from opsconductor.orchestrator.engine.outputs import Outputs
from opsconductor.rpc.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opsconductor.orchestrator.domain.executions import events as ev
    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.listeners import Listeners
    from opsconductor.orchestrator.store.rows import StoredEvent
    from opsconductor.orchestrator.store.store import Store

READ_EVENTS = 500


@dataclass(frozen=True)
class Watched:
    """One event with the state it led to."""

    stored: StoredEvent
    recorded: ev.Recorded
    state: Execution


class History:
    """Reads executions and their events, and through ``outputs`` what their attempts wrote."""

    def __init__(self, store: Store, engine: Engine, listeners: Listeners) -> None:
        self._store = store
        self._engine = engine
        self._listeners = listeners
        self.outputs = Outputs(store, engine, listeners)

    async def find(self, execution_id: str, tenant: str) -> Execution:
        """Returns an execution by our id or the caller's; NotFound also for other tenants'."""
        if not execution_id:
            raise InvalidArgument("execution_id is empty")
        row = await self._store.execution(execution_id, tenant)
        if row is None:
            raise NotFound(f"there is no execution {execution_id}")
        return await self._engine.execution(row.execution_id)

    async def settled(self, execution_id: str) -> Execution:
        """Waits until an execution has ended or waits for a person, and returns it."""
        waiting = ("approval_required", "attention_required", "paused")
        with self._listeners.watch(execution_id) as news:
            while True:
                state = await self._engine.execution(execution_id)
                if not state.open or state.state in waiting:
                    return state
                await heard_within(news)

    async def watch(self, execution_id: str, from_seq: int) -> AsyncIterator[Watched]:
        """Yields events from a number on, as they are committed, to the end of the execution."""
        state: Execution | None = None
        with self._listeners.watch(execution_id) as news:
            while True:
                seen = state.last_seq if state else 0
                stored = await self._store.events(
                    execution_id, from_seq=seen + 1, limit=READ_EVENTS
                )
                for item, recorded in zip(stored, log.read(stored), strict=True):
                    state = apply(state, recorded)
                    if item.seq >= from_seq:
                        yield Watched(item, recorded, state)
                if len(stored) == READ_EVENTS:
                    continue
                if state is not None and not state.open and await self._is_last(state):
                    return
                await heard_within(news)

    async def _is_last(self, state: Execution) -> bool:
        # Memory may be behind for a moment when another orchestrator wrote the end.
        return (await self._engine.execution(state.execution_id)).last_seq <= state.last_seq
