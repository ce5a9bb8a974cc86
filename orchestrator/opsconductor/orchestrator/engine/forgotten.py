"""Journals given up after a restore: what their agents may have done waits for a person."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.executions.place import able, demand_of
from opsconductor.orchestrator.domain.executions.states import ExecutionState

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.fleet import Member
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

_GOING = (ExecutionState.QUEUED, ExecutionState.RUNNING)


class Forgotten:
    """Stops executions of which neither the store nor a journal knows how far they came."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine

    async def stop(self, member: Member, person: str) -> None:
        """Pauses what an agent may have gone on with after the backup; an undo is cancelled.

        What waits for a person already stays as it is.
        """
        reason = (
            f"what agent {member.name} did of it after the backup is not known: its journal is "
            "lost. Look at its targets, then `opsctl runs resume` or `opsctl runs cancel`"
        )
        for execution_id in await self._store.open_executions():
            state = await self._engine.execution(execution_id)
            if state.tenant == member.tenant and _may_have_changed(state, member):
                LOG.warning("execution %s: %s", execution_id, reason)
                await self._engine.command(
                    execution_id, lambda state, _: _stopped(state, person, reason)
                )


def _stopped(state: Execution, person: str, reason: str) -> commands.Events:
    if state.state in _GOING:
        return commands.pause(state, person, reason)
    if state.state is ExecutionState.ROLLING_BACK:
        return commands.cancel(state, person, reason)
    return ()


def _may_have_changed(state: Execution, member: Member) -> bool:
    view = member.view()
    return any(step.changes and able(demand_of(step.body), view) for step in state.compiled.steps)
