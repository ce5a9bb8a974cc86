"""The executions in memory: those this orchestrator moves, and others while they are in use."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from opsconductor.orchestrator.engine.actor import Actor, read
from opsconductor.rpc.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.engine.fleet import Member
    from opsconductor.orchestrator.store.store import Store

IDLE_KEPT = 500
"""So many executions stay in memory although nothing of them runs; each is tens of KiB."""
ENDED_KEPT = 32
"""Whoever waited for an end reads the execution right then: the last ones stay a while."""


class Memory:
    """Finds executions; all who use one at a time share one actor, and so one lock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.moving: dict[str, Actor] = {}
        """Open executions that this orchestrator moves."""
        self.resting: dict[str, int] = {}
        """Further ones, each with its last written event: of them nothing else is in memory until
        something happens to them."""
        self._others: WeakValueDictionary[str, Actor] = WeakValueDictionary()
        self._ended: deque[Actor] = deque(maxlen=ENDED_KEPT)
        self._attempts: dict[str, str] = {}

    async def find(self, execution_id: str) -> Actor:
        """Returns an execution from memory, else from the store. Raises NotFound.

        One that others may be moving is marked as doubtful unless it was read just now.
        """
        if actor := self._in_memory(execution_id):
            return actor
        fresh = await read(self._store, execution_id)
        # Whoever else loaded it meanwhile has to share one lock.
        return self._in_memory(execution_id) or self._others.setdefault(execution_id, fresh)

    async def execution_of(self, attempt_id: str) -> str:
        """Returns the execution an attempt belongs to. Raises NotFound."""
        if execution_id := self._attempts.get(attempt_id):
            return execution_id
        row = await self._store.attempt(attempt_id)
        if row is None:
            raise NotFound(f"there is no attempt {attempt_id}")
        return row.execution_id

    async def expect(self, members: Iterable[Member]) -> set[str]:
        """Notes what is open; returns what agents are at, whose places and locks count first."""
        self.resting.update(dict.fromkeys(await self._store.open_executions(), 0))
        rows = [await self._store.attempts_open_for(member.agent_id) for member in members]
        return {row.execution_id for found in rows for row in found} & self.resting.keys()

    def knows(self, execution_id: str) -> bool:
        """Tells whether this orchestrator moves an execution."""
        return execution_id in self.moving or execution_id in self.resting

    async def moved(self, execution_id: str) -> Actor | None:
        """Returns an execution if this orchestrator moves it."""
        if actor := self.moving.get(execution_id):
            return actor
        if execution_id not in self.resting:
            return None
        actor = await self.find(execution_id)
        # Others may have taken it over while it rested: that has to be seen and acted upon.
        actor.doubtful = actor.doubtful or self._store.shared
        return actor

    def written(self) -> dict[str, int]:
        """Returns the last written event of each execution that this orchestrator moves."""
        return self.resting | {
            execution_id: actor.written.last_seq if actor.written else 0
            for execution_id, actor in self.moving.items()
        }

    def keep(self, actor: Actor) -> None:
        """Keeps an execution that this orchestrator moves."""
        self.moving[actor.state.execution_id] = actor
        self.resting.pop(actor.state.execution_id, None)
        for attempt in actor.state.live_attempts():
            self._attempts[attempt.attempt_id] = actor.state.execution_id

    def rest(self, actor: Actor) -> None:
        """Keeps of an execution that only waits no more than its name, where there are many."""
        state = actor.state
        if len(self.moving) <= IDLE_KEPT or actor.unwritten or actor.untold:
            return
        if state.recovered or any(state.live_attempts()):
            return
        del self.moving[state.execution_id]
        self.resting[state.execution_id] = state.last_seq
        self._others[state.execution_id] = actor  # whoever uses it just now shares its lock

    def let_go(self, actor: Actor) -> None:
        """Keeps an execution only as long as somebody uses it, or a while when it has ended."""
        state = actor.state
        self.resting.pop(state.execution_id, None)
        self.moving.pop(state.execution_id, None)
        self._others[state.execution_id] = actor
        if not state.open:
            self._ended.append(actor)
        self._forget_attempts(state)

    def forget(self) -> None:
        """Keeps nothing of executions that this orchestrator does not move."""
        self._others.clear()
        self._ended.clear()
        self._attempts.clear()

    def _in_memory(self, execution_id: str) -> Actor | None:
        if actor := self.moving.get(execution_id):
            return actor
        if actor := self._others.get(execution_id):
            actor.doubtful = actor.doubtful or self._store.shared
        return actor

    def _forget_attempts(self, state: Execution) -> None:
        for attempt_id in state.attempts:
            self._attempts.pop(attempt_id, None)
