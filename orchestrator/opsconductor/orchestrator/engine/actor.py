"""One execution in memory: its state, its place in the chain, and its turn-taking."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.advance import settle
from opsconductor.orchestrator.domain.executions.fold import apply, fold
from opsconductor.orchestrator.domain.executions.locks import locks_of
from opsconductor.orchestrator.domain.executions.states import AttemptState
from opsconductor.orchestrator.engine import log, rows
from opsconductor.orchestrator.store.base import (
    AppendEvents,
    Op,
    PutApproval,
    PutAttempt,
    PutExecution,
)
from opsconductor.orchestrator.store.sharing import (
    DropLease,
    Fence,
    FreeHolds,
    TakeHold,
    TakeLease,
)
from opsconductor.rpc import ids
from opsconductor.rpc.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution
    from opsconductor.orchestrator.domain.executions.place import Grant
    from opsconductor.orchestrator.store.store import Store

EVENTS_PER_READ = 1000


@dataclass
class Actor:
    """An execution and what of it is not written yet."""

    state: Execution
    head: str = log.GENESIS
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    written: Execution | None = None
    """The state as the store has it; None before the first commit."""
    owner: str = ""
    """The orchestrator that moves it, as last read or written; empty for none, or the only one."""
    timer: datetime | None = None
    """When it asked to be looked at again."""
    unwritten: list[ev.Recorded] = field(default_factory=list)
    """Events that nobody waits for; they go with the next commit."""
    doubtful: bool = False
    """Whether the store may know more: a commit's end was not seen, or others wrote."""
    untold: bool = False
    """Whether an agent came for its work while this orchestrator might not act."""

    def note(self, event: ev.AttemptStarted, now: datetime) -> None:
        """Takes an event that is written with the next commit."""
        # What follows from the passing of time is left to a move, which also acts on it.
        item = ev.Recorded(self.state.last_seq + 1, now, event)
        self.state = apply(self.state, item)
        self.unwritten.append(item)

    def wrote(self, state: Execution, head: str, owner: str) -> None:
        """Notes that a commit arrived."""
        self.state = self.written = state
        self.head, self.owner = head, owner
        self.unwritten, self.doubtful = [], False

    async def catch_up(self, store: Store) -> None:
        """Reads what the store has beyond what was known to be written."""
        fresh = await _read_on(store, self.state.execution_id, self.written, self.head)
        unwritten = self.unwritten
        self.wrote(fresh.state, fresh.head, fresh.owner)
        for item in unwritten:
            event = item.event
            if isinstance(event, ev.AttemptStarted) and is_granted(self.state, event.attempt_id):
                self.note(event, item.at)


@dataclass
class Change:
    """A step forward of one execution that is worked out but not committed."""

    actor: Actor
    state: Execution
    recorded: list[ev.Recorded] = field(default_factory=list)
    grants: list[tuple[Grant, str]] = field(default_factory=list)
    """What is granted, each with the attempt's id."""
    keeps_time: bool = True
    """Whether this orchestrator moves the execution, by its own clock."""

    def extend(self, events: Sequence[ev.Event], now: datetime) -> None:
        """Adds events and all that follows from them."""
        self.state, more = settle(self.state, now, events, keeps_time=self.keeps_time)
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
            clock=self.state.clock.mark,
        )
        self.grants.append((grant, attempt_id))
        self.extend((event,), now)
        return attempt_id

    def copy(self) -> Change:
        """Returns a change of its own that stands where this one does."""
        return replace(self, recorded=list(self.recorded), grants=list(self.grants))

    def operations(self) -> tuple[list[Op], str]:
        """Returns what to write, and the chain's head afterwards."""
        actor, state = self.actor, self.state
        events, head = log.chain(actor.head, state.execution_id, [*actor.unwritten, *self.recorded])
        old = actor.written
        ops: list[Op] = [
            AppendEvents(state.execution_id, events, after=actor.head),
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

    def guards(self, replica_id: str) -> tuple[list[Op], str]:
        """Returns what keeps other orchestrators from interfering, and who owns it afterwards.

        Who opens an execution moves it from then on, whoever ends one drops it. A grant needs the
        execution and every lock of the step, in the transaction that grants.
        """
        state, actor = self.state, self.actor
        ops: list[Op] = [FreeHolds(attempt.attempt_id) for attempt in self._ended()]
        was_open = actor.written is not None and actor.written.open
        owner = actor.owner
        if not state.open:
            owner = ""
            ops += [DropLease(state.execution_id)] if was_open else []
        elif not was_open:
            owner = replica_id
            ops.append(TakeLease(state.execution_id, replica_id))
        elif self.grants:
            ops.append(Fence(state.execution_id, actor.owner))
        ops += [
            TakeHold(key, room, attempt_id)
            for grant, attempt_id in self.grants
            for key, room in grant.step.locks
        ]
        return [*ops, *self._holds_recovered()], owner

    def _holds_recovered(self) -> Iterator[Op]:
        """What an agent is found to be at holds its locks, also when others hold them by now."""
        for item in self.recorded:
            if not isinstance(found := item.event, ev.AttemptRecovered):
                continue
            if found.report["state"] != AttemptState.RUNNING:
                yield FreeHolds(found.attempt_id)
                continue
            step = self.state.compiled_step(found.step_id)
            for key, _ in locks_of(self.state.tenant, step, found.kind):
                yield TakeHold(key, sys.maxsize, found.attempt_id)

    def _ended(self) -> list[Attempt]:
        """Returns the attempts that end in this change and held locks."""
        return [
            attempt
            for item in self.recorded
            if isinstance(item.event, ev.AttemptFinished)
            and (attempt := self.state.attempts[item.event.attempt_id])
            and locks_of(self.state.tenant, self.state.compiled_step(attempt.step_id), attempt.kind)
        ]


async def read(store: Store, execution_id: str) -> Actor:
    """Returns an execution as the store has it. Raises NotFound."""
    return await _read_on(store, execution_id, None, log.GENESIS)


def is_granted(state: Execution, attempt_id: str) -> bool:
    """Tells whether an attempt is granted and nothing more is known of it."""
    attempt = state.attempts.get(attempt_id)
    return attempt is not None and attempt.state is AttemptState.GRANTED


async def _read_on(store: Store, execution_id: str, state: Execution | None, head: str) -> Actor:
    while True:
        seen = state.last_seq if state else 0
        chain = await store.chain(execution_id, from_seq=seen + 1, limit=EVENTS_PER_READ)
        if chain.events:
            state = fold(state, log.read(chain.events))
            head = chain.events[-1].hash
        if len(chain.events) < EVENTS_PER_READ:
            break
    if state is None:
        raise NotFound(f"there is no execution {execution_id}")
    return Actor(state, head, written=state, owner=chain.owner)
