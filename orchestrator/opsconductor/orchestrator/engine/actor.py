"""One open execution in memory: its state, its place in the chain, and its turn-taking."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from opsconductor.orchestrator.domain import events as ev
from opsconductor.orchestrator.domain.advance import settle
from opsconductor.orchestrator.domain.fold import fold
from opsconductor.orchestrator.engine import log, rows
from opsconductor.orchestrator.store.base import (
    AppendEvents,
    Op,
    PutApproval,
    PutAttempt,
    PutExecution,
)
from opsconductor.rpc import ids
from opsconductor.rpc.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from opsconductor.orchestrator.domain.execution import Execution
    from opsconductor.orchestrator.domain.place import Grant
    from opsconductor.orchestrator.store.store import Store

EVENTS_PER_READ = 1000
ENDED_KEPT = 32


@dataclass
class Actor:
    """An execution and what of it is not written yet."""

    state: Execution
    head: str = log.GENESIS
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    written: Execution | None = None
    """The state as the store has it; None before the first commit."""
    timer: datetime | None = None
    """When it asked to be looked at again."""
    unwritten: list[ev.Recorded] = field(default_factory=list)
    """Events that nobody waits for; they go with the next commit."""
    doubtful: bool = False
    """Whether a commit failed in a way that may have written it."""


@dataclass
class Change:
    """A step forward of one execution that is worked out but not committed."""

    actor: Actor
    state: Execution
    recorded: list[ev.Recorded]

    def extend(self, events: Sequence[ev.Event], now: datetime) -> None:
        """Adds events and all that follows from them."""
        self.state, more = settle(self.state, now, events)
        self.recorded += more

    def grant(self, grant: Grant, now: datetime) -> str:
        """Adds the grant of an attempt, and returns the attempt's id."""
        step = grant.step
        attempt_id = ids.attempt_id(step.execution_id, step.step_id, step.kind, step.number)
        event = ev.AttemptGranted(
            attempt_id=attempt_id,
            step_id=step.step_id,
            kind=step.kind,
            number=step.number,
            agent_id=grant.agent_id,
            session_epoch=grant.session_epoch,
            routing_reason=grant.reason,
            start_order=1 + max((s.start_order for s in self.state.steps.values()), default=0),
        )
        self.extend((event,), now)
        return attempt_id

    def operations(self) -> tuple[list[Op], str]:
        """Returns what to write, and the chain's head afterwards."""
        actor, state = self.actor, self.state
        events, head = log.chain(actor.head, state.execution_id, [*actor.unwritten, *self.recorded])
        old = actor.written
        ops: list[Op] = [
            AppendEvents(state.execution_id, events),
            PutExecution(rows.execution_row(state, head)),
        ]
        ops += [
            PutApproval(rows.approval_row(state, approval))
            for approval_id, approval in state.approvals.items()
            if old is None or old.approvals.get(approval_id) is not approval
        ]
        ops += [
            PutAttempt(rows.attempt_row(state, attempt))
            for attempt_id, attempt in state.attempts.items()
            if old is None or old.attempts.get(attempt_id) is not attempt
        ]
        return ops, head


class AtRest:
    """Executions in memory that are not open: those in use, and the last that ended.

    Whoever waited for an end reads the execution right then, and must not make the store tell the
    whole story again.
    """

    def __init__(self) -> None:
        self._actors: WeakValueDictionary[str, Actor] = WeakValueDictionary()
        self._ended: deque[Actor] = deque(maxlen=ENDED_KEPT)

    def get(self, execution_id: str) -> Actor | None:
        """Returns an execution if it is in memory."""
        return self._actors.get(execution_id)

    def put(self, actor: Actor) -> None:
        """Keeps one that has just ended, for a while."""
        self._actors[actor.state.execution_id] = actor
        self._ended.append(actor)

    def share(self, fresh: Actor) -> Actor:
        """Returns the one in memory, else the one just read: all who use it share its lock."""
        return self._actors.setdefault(fresh.state.execution_id, fresh)


async def read(store: Store, execution_id: str) -> Actor:
    """Returns an execution as the store has it. Raises NotFound."""
    recorded: list[ev.Recorded] = []
    head = log.GENESIS
    while True:
        stored = await store.events(execution_id, from_seq=len(recorded) + 1, limit=EVENTS_PER_READ)
        recorded += log.read(stored)
        head = stored[-1].hash if stored else head
        if len(stored) < EVENTS_PER_READ:
            break
    if not recorded:
        raise NotFound(f"there is no execution {execution_id}")
    state = fold(None, recorded)
    return Actor(state, head, written=state)
