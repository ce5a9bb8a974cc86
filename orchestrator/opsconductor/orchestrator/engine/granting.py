"""Granting: who gets an agent in a change, and what the fleet counts for it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions import starting
from opsconductor.orchestrator.domain.executions.locks import locks_of
from opsconductor.orchestrator.domain.executions.place import Grant, place, ready_steps
from opsconductor.orchestrator.domain.executions.states import AttemptState
from opsconductor.orchestrator.engine.waiting import Queue
from opsconductor.rpc.failpoints import hit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution
    from opsconductor.orchestrator.engine.actor import Change
    from opsconductor.orchestrator.engine.fleet import Fleet
    from opsconductor.orchestrator.engine.waiting import Waiting


@dataclass(frozen=True)
class Placed:
    """What a change took from the fleet and gave back to it, until it is known to be written."""

    grants: list[tuple[Grant, str]]
    ended: list[Attempt]
    waited: Queue


class Granting:
    """Gives ready steps to agents and keeps count of places and locks."""

    def __init__(self, fleet: Fleet, waiting: Waiting, free: Callable[[], None]) -> None:
        """Calls ``free`` when something was given back that others may wait for."""
        self._fleet = fleet
        self._waiting = waiting
        self._free = free
        self._in_doubt: defaultdict[str, dict[str, str]] = defaultdict(dict)
        """By execution, attempts that may have been granted, each with its agent."""
        self._owed = False

    def place(
        self, change: Change, now: datetime, turn: Collection[str] | None, *, allowed: bool
    ) -> Placed:
        """Adds to a change the grants of what is ready, if this orchestrator may grant.

        Args:
            change: A change that is settled.
            now: The time.
            turn: Only these steps; None for all, unless other executions wait.
            allowed: Whether the execution is this orchestrator's to move.
        """
        waited = self._waiting.of(change.state.execution_id)
        ended = self._release_ended(change)
        if allowed:
            self._grant(change, now, turn)
        return Placed(change.grants, ended, waited)

    def take_back(self, change: Change, placed: Placed, *, in_doubt: bool = False) -> None:
        """Makes the fleet what it was before a change that was not written.

        In doubt what was granted keeps its places and locks until the store tells: others that
        were given them meanwhile would run beside it.
        """
        execution_id = change.state.execution_id
        self._waiting.put(execution_id, placed.waited)
        for grant, attempt_id in placed.grants:
            if in_doubt:
                self._in_doubt[execution_id][attempt_id] = grant.agent_id
            else:
                self._fleet.release(grant.agent_id, attempt_id)
        for attempt in placed.ended:
            self._take(change.state, attempt)

    def hold(self, state: Execution) -> None:
        """Counts every live attempt of an execution; those that are counted stay counted."""
        live = list(state.live_attempts())
        # Others are not woken yet: while the store refuses to write they would only try as well.
        self._owed |= self._settle(state.execution_id, {attempt.attempt_id for attempt in live})
        for attempt in live:
            self._take(state, attempt)
        for found in state.recovered.values():
            if found.attempt_id in state.attempts:
                continue
            if found.report["state"] == AttemptState.RUNNING:
                self._take(state, found)
            elif self._fleet.release(found.agent_id, found.attempt_id):
                self._free()

    def let_go(self, state: Execution) -> None:
        """Counts nothing of an execution any more."""
        self.give_back(state.execution_id)
        held: list[Attempt | ev.AttemptRecovered] = [*state.attempts.values()]
        for attempt in (*held, *state.recovered.values()):
            self._fleet.release(attempt.agent_id, attempt.attempt_id)
        self._waiting.put(state.execution_id)

    def give_back(self, execution_id: str) -> None:
        """Gives back what was granted in doubt of an execution that is not moved here."""
        if self._settle(execution_id):
            self._free()

    def written(self) -> None:
        """Wakes those who may wait for what was given back, now that the store writes again."""
        if self._owed:
            self._owed = False
            self._free()

    def _grant(self, change: Change, now: datetime, turn: Collection[str] | None) -> None:
        """Grants what is ready; while other executions wait, only steps whose turn it is."""
        state = change.state
        ready = ready_steps(state, now)
        if not ready:
            self._waiting.put(state.execution_id)
            return
        if turn is None and self._waiting.others(state.execution_id):
            turn = ()
        mine = [item for item in ready if turn is None or item.step_id in turn]
        placement = place(mine, self._fleet.views(state.tenant), self._fleet.holds)
        hit("place.mid")
        if placement.refused:
            change.extend([starting.conflict(*item) for item in placement.refused], now)
            self._grant(change, now, turn)
            return
        given = {grant.step.step_id for grant in placement.grants}
        left = tuple(item for item in ready if item.step_id not in given)
        passed_over = len(left) > len(placement.waiting)
        self._waiting.put(state.execution_id, Queue(state.tenant, left, passed_over))
        for grant in placement.grants:
            attempt_id = change.grant(grant, now)
            self._fleet.take(grant.agent_id, attempt_id, grant.step.locks)

    def _settle(self, execution_id: str, live: Collection[str] = ()) -> bool:
        """Gives back what was granted in doubt and is not live; tells whether there was any."""
        doubtful = self._in_doubt.pop(execution_id, {})
        back = [
            attempt_id not in live and self._fleet.release(agent_id, attempt_id)
            for attempt_id, agent_id in doubtful.items()
        ]
        return any(back)

    def _release_ended(self, change: Change) -> list[Attempt]:
        """Frees places and locks of attempts that end in this change, so that it can use them."""
        ended = [
            attempt
            for item in change.recorded
            if isinstance(item.event, ev.AttemptFinished)
            and (attempt := change.state.attempts[item.event.attempt_id])
            and self._fleet.release(attempt.agent_id, attempt.attempt_id)
        ]
        if ended and self._waiting:
            self._free()
        return ended

    def _take(self, state: Execution, attempt: Attempt | ev.AttemptRecovered) -> None:
        locks = locks_of(state.tenant, state.compiled_step(attempt.step_id), attempt.kind)
        self._fleet.take(attempt.agent_id, attempt.attempt_id, locks)
