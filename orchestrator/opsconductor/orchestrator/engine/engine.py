"""The engine: takes commands and reports, commits what the domain makes of them, then acts.

One execution moves under its own lock; every move is worked out in memory, committed in one
transaction, and only then told to callers and agents. A failed commit leaves nothing behind.

Where several orchestrators share a store, each execution is moved by one of them: only that one
grants, sends and keeps time. Any other may append what people and agents say; whoever finds the
next event number taken reads on and decides again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.advance import next_deadline
from opsconductor.orchestrator.domain.executions.fold import fold
from opsconductor.orchestrator.engine import reach
from opsconductor.orchestrator.engine.actor import Actor, Change
from opsconductor.orchestrator.engine.clock_steps import ClockSteps, boottime
from opsconductor.orchestrator.engine.dispatch import Dispatch, takes_back
from opsconductor.orchestrator.engine.doubts import Doubts, may_be_written
from opsconductor.orchestrator.engine.granting import Granting
from opsconductor.orchestrator.engine.memory import Memory
from opsconductor.orchestrator.engine.replica import Replica
from opsconductor.orchestrator.engine.starts import Starts
from opsconductor.orchestrator.engine.timers import Timers
from opsconductor.orchestrator.engine.turns import Turns
from opsconductor.orchestrator.engine.waiting import Waiting
from opsconductor.orchestrator.engine.work import Trouble, Work
from opsconductor.orchestrator.store.base import SequenceConflict
from opsconductor.orchestrator.store.sharing import LockTaken, OwnerLost, PassLease
from opsconductor.rpc.errors import OpsConductorError
from opsconductor.rpc.failpoints import hit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution
    from opsconductor.orchestrator.engine.fleet import Fleet
    from opsconductor.orchestrator.engine.listeners import Listeners
    from opsconductor.orchestrator.store.store import Store

    Decide = Callable[[Execution, datetime], Sequence[ev.Event]]

LOG = logging.getLogger(__name__)

RETRY_IN = 1.0  # seconds, after the store refused
RACES = 20
"""How often a move is decided anew because others were faster, before its caller is told."""


class Engine:
    """Moves executions forward."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        listeners: Listeners,
        clock: Callable[[], datetime],
        on_finished: Callable[[Execution], None] = lambda _: None,
        replica: Replica | None = None,
        steady: Callable[[], float] = boottime,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._listeners = listeners
        self._on_finished = on_finished
        self._replica = replica or Replica()
        self._clock_steps = ClockSteps(clock, steady)
        self._clock = self._clock_steps.now
        self._memory = Memory(store)
        self.execution_of = self._memory.execution_of
        self.waiting = Waiting()
        self._wake_placement = asyncio.Event()
        self._granting = Granting(fleet, self.waiting, self._wake_placement.set)
        self._dispatch = Dispatch(fleet)
        self._timers = Timers(self._clock)
        self.on_regress: Callable[[str], Coroutine[None, None, None]] | None = None
        """What else is done when the store went back in time, told why."""
        self._trouble = Trouble(LOG)
        self._work = Work()
        self.after_others = self._work.after_others
        told = (self.went_back, self._granting.give_back)
        self._doubts = Doubts(self._work, self._memory, self._go_on, *told)
        self._starts = Starts(store, self, self._memory, self._work, self._clock)
        self._turns = Turns(
            *(self, self._memory, self._work, self._timers, self.waiting, fleet),
            *(self._wake_placement, self._clock_steps),
        )

    # Life

    async def start(self) -> None:
        """Begins to move executions; those of a store of its own all go on where the log ends."""
        if not self._replica.shared:
            for execution_id in await self._memory.expect(self._fleet.members()):
                self._adopt(await self._memory.find(execution_id), self._clock())
        self._work.go_on_with(self._turns.give_by_time())
        self._work.go_on_with(self._turns.give_by_room())
        self._work.go_on_with(self._turns.look_through())
        for execution_id in sorted({*self._memory.moving, *self._memory.resting}):
            await self.advance(execution_id)

    async def stop(self) -> None:
        """Writes what is unwritten and ends the engine's own tasks; executions stay as they are."""
        await self._work.stop()
        await self.flush()

    async def flush(self) -> None:
        """Writes what nobody waited for."""
        for actor in list(self._memory.moving.values()):
            async with actor.lock:
                await self._flush(actor)

    # Commands

    async def begin(self, submitted: ev.Submitted) -> Execution:
        """Starts an execution: returns after its first commit, possibly with granted steps."""
        return await self._work.to_its_end(self._begin(submitted))

    async def _begin(self, submitted: ev.Submitted) -> Execution:
        now = self._clock()
        first = ev.Recorded(1, now, submitted)
        actor = Actor(self._clock_steps.seen(fold(None, [first])), owner=self._replica.replica_id)
        async with actor.lock:
            hit("submit.before_commit")
            state = await self._move(Change(actor, actor.state, [first]), now)
            hit("submit.after_commit_before_reply")
        return state

    async def command(self, execution_id: str, decide: Decide) -> Execution:
        """Applies what a person or an agent wants of an execution; a refusal changes nothing.

        Raises:
            NotFound: There is no such execution.
            OpsConductorError: ``decide`` refused.
        """
        return await self._work.to_its_end(self._command(execution_id, decide))

    async def _command(self, execution_id: str, decide: Decide) -> Execution:
        actor = await self._memory.find(execution_id)
        async with actor.lock:
            return await self._decide(actor, decide)

    async def note(self, event: ev.AttemptStarted, agent_id: str) -> None:
        """Takes a start nobody waits for; it is written with the next commit, or shortly after."""
        await self._starts.note(event, agent_id)

    # Reading

    async def execution(self, execution_id: str) -> Execution:
        """Returns an execution, open or finished. Raises NotFound."""
        actor = await self._memory.find(execution_id)
        if actor.doubtful and not self._replica.may_move(actor.owner):
            async with actor.lock:
                await self._catch_up(actor)
        return actor.state

    def open_states(self) -> Iterable[Execution]:
        """Returns every open execution that this orchestrator moves."""
        return [actor.state for actor in self._memory.moving.values()]

    def moves(self, execution_id: str) -> bool:
        """Tells whether it is this orchestrator that grants and sends for an execution."""
        if actor := self._memory.moving.get(execution_id):
            return self._replica.may_move(actor.owner)
        resting = execution_id in self._memory.resting and self._replica.may_act()
        return resting or not self._replica.shared

    def waiting_reason(self, execution_id: str, step_id: str) -> str:
        """Returns why a ready step has no agent yet; empty when it is not waiting."""
        return self.waiting.reason(execution_id, step_id, self._fleet)

    def place_soon(self) -> None:
        """Looks again for agents for what waits."""
        self._wake_placement.set()

    def send(self, state: Execution, attempt: Attempt) -> None:
        """Sends a granted attempt to its agent, if that is connected; may be repeated."""
        if self.moves(state.execution_id):
            self._dispatch.send(state, attempt)
        elif actor := self._memory.moving.get(state.execution_id):
            actor.untold = True

    # Among other orchestrators

    def moving(self) -> Mapping[str, int]:
        """Returns the last written event of each execution that this orchestrator moves."""
        return self._memory.written()

    def look_again(self, execution_id: str) -> None:
        """Reads on where others may have written, and moves on from there."""
        self._listeners.notify(execution_id)
        if actor := self._memory.moving.get(execution_id):
            actor.doubtful = True
        if execution_id in self._memory.moving or execution_id in self._memory.resting:
            self._work.start(self.advance(execution_id))

    def better_placed(self, execution_id: str) -> str:
        """Returns the orchestrator that can go on with an execution that this one cannot."""
        if actor := self._memory.moving.get(execution_id):
            return reach.better_placed(actor.state, self._fleet, self._clock())
        queue = self.waiting.of(execution_id)
        return reach.closer_to(queue.tenant, queue.steps, self._fleet)

    async def take_over(self, execution_id: str) -> None:
        """Goes on with an execution that the store says is this orchestrator's now."""
        actor = await self._memory.find(execution_id)
        actor.doubtful = True
        try:
            await self._work.to_its_end(self._go_on(actor, None))
        except OpsConductorError as exc:
            LOG.warning("execution %s is taken over later: %s", execution_id, exc.message)

    async def pass_on(self, execution_id: str, to: str) -> None:
        """Hands an execution to another orchestrator, whole."""
        if actor := await self._memory.moved(execution_id):
            await self._work.to_its_end(self._pass_on(actor, to))

    def drop_all(self) -> None:
        """Stops moving whatever it moves: others do."""
        for actor in list(self._memory.moving.values()):
            self._let_go(actor)
        while self._memory.resting:
            self.waiting.put(self._memory.resting.popitem()[0])

    def went_back(self, reason: str) -> None:
        """Forgets what is in memory: the store has lost some of it, though it had confirmed it."""
        if self._replica.shared:  # a file that is ours alone does not change under us
            self.drop_all()
            self._memory.forget()
        if self.on_regress:
            self._work.start(self.on_regress(reason))

    async def _pass_on(self, actor: Actor, to: str) -> Execution:
        async with actor.lock:
            await self._flush(actor)
            execution_id = actor.state.execution_id
            if self._replica.may_move(actor.owner) and not actor.unwritten:
                actor.doubtful = True
                await self._store.commit(PassLease(execution_id, actor.owner, to))
                await self._catch_up(actor)
            return actor.state

    # Moving

    async def _decide(
        self, actor: Actor, decide: Decide | None, turn: Collection[str] | None = None
    ) -> Execution:
        """Moves an execution by a decision, or only on; anew whenever others were faster."""
        for race in range(RACES):
            doubtful = actor.doubtful  # there may be steps nobody has looked at to place
            await self._catch_up(actor)
            now = self._clock()
            actor.state = self._clock_steps.seen(actor.state)
            mine = self._replica.may_move(actor.owner)
            change = Change(actor, actor.state, keeps_time=mine)
            if decide:
                events = decide(actor.state, now)
                if not events and not (doubtful and actor.state.open and mine):
                    return actor.state
                change.extend(events, now)
            elif not mine:
                return actor.state
            try:
                return await self._move(change, now, turn)
            except (SequenceConflict, OwnerLost):
                if race == RACES - 1:
                    raise
        raise AssertionError("unreachable")

    async def _catch_up(self, actor: Actor) -> None:
        """Reads on after a commit whose end was not seen, or where others wrote; lock held."""
        if not actor.doubtful or actor.written is None:
            return
        moved = actor.state.execution_id in self._memory.moving
        before = actor.state
        await actor.catch_up(self._store)
        state = actor.state = self._clock_steps.seen(actor.state)
        for attempt in before.live_attempts():
            if not state.attempts[attempt.attempt_id].live:
                self._fleet.release(attempt.agent_id, attempt.attempt_id)
        if not state.open or not self._replica.may_move(actor.owner):
            self._let_go(actor)
            return
        self._adopt(actor, self._clock())
        self._dispatch.resume(state, before.attempts if moved and not actor.untold else ())
        actor.untold = False

    async def _move(
        self, change: Change, now: datetime, turn: Collection[str] | None = None
    ) -> Execution:
        """Settles, places, commits and acts; the actor's lock is held."""
        actor = change.actor
        change.extend((), now)
        allowed = self._replica.may_move(actor.owner)
        while True:
            tried = change.copy()
            placed = self._granting.place(tried, now, turn, allowed=allowed)
            try:
                await self._commit(tried)
                break
            except LockTaken as exc:
                self._granting.take_back(tried, placed)
                self._fleet.taken_elsewhere(exc.lock_key)
            except BaseException as exc:
                actor.doubtful = True
                self._granting.take_back(tried, placed, in_doubt=may_be_written(exc))
                self._doubts.after(exc, actor.state.execution_id)
                raise
        with self._doubts.telling(actor):
            hit("grant.after_commit_before_send")
            for _, attempt_id in tried.grants:
                self._dispatch.send(tried.state, tried.state.attempts[attempt_id])
            self._act(tried, now)
        # Only now: before the commit nobody who gives out turns would find it.
        if turn is None and self.waiting.asks_again(tried.state.execution_id):
            self._wake_placement.set()
        if not allowed and tried.state.execution_id in self._memory.moving:
            self._work.start(self.advance(tried.state.execution_id))  # it is ours only now
        return tried.state

    async def _commit(self, change: Change) -> None:
        actor = change.actor
        if not change.recorded and not actor.unwritten:
            return
        operations, head = change.operations()
        owner = actor.owner
        if self._replica.shared:
            guards, owner = change.guards(self._replica.replica_id)
            operations += guards
        hit("grant.before_commit")
        await self._store.commit(*operations)
        actor.wrote(change.state, head, owner)

    async def _flush(self, actor: Actor) -> None:
        """Writes an execution's unwritten events, if others did not write instead."""
        if not actor.unwritten:
            return
        try:
            await self._commit(Change(actor, actor.state))
        except OpsConductorError as exc:
            actor.doubtful = True
            LOG.debug("%s: starts stay unwritten: %s", actor.state.execution_id, exc.message)

    def _act(self, change: Change, now: datetime) -> None:
        """Does what follows a commit: bookkeeping, cancels, watchers, timers."""
        state = change.state
        mine = state.open and self._replica.may_move(change.actor.owner)
        if mine:
            self._adopt(change.actor, now)
            self._granting.written()
        for item in change.recorded:
            if mine and takes_back(state, item.event):
                self._dispatch.cancel(state)
            elif isinstance(item.event, ev.ExecutionFinished):
                self._on_finished(state)
        self._listeners.notify(state.execution_id)
        if not mine:
            self._let_go(change.actor)

    def _adopt(self, actor: Actor, now: datetime) -> None:
        self._memory.keep(actor)
        self._granting.hold(actor.state)
        clock = actor.state.clock
        if clock.name and clock is not self._clock_steps.clock:  # set while this was written
            self._work.start(self.advance(actor.state.execution_id))
        deadline = next_deadline(actor.state, now)
        if deadline and deadline != actor.timer:
            actor.timer = deadline
            self._timers.put(deadline, actor.state.execution_id)
        self._memory.rest(actor)

    def _let_go(self, actor: Actor) -> None:
        self._granting.let_go(actor.state)
        actor.timer = None
        self._memory.let_go(actor)

    # Background work

    async def advance(self, execution_id: str, turn: Collection[str] | None = None) -> None:
        """Moves an execution on; a store that does not answer is asked again later."""
        try:
            if actor := await self._memory.moved(execution_id):
                await self._work.to_its_end(self._go_on(actor, turn))
        except OpsConductorError as exc:
            self._trouble.say(f"{execution_id} could not move on and is tried again: {exc.message}")
            self._work.start_once_in(RETRY_IN, execution_id, lambda: self.advance(execution_id))
        except Exception:
            # One execution that cannot be worked with must not keep all others from moving.
            LOG.exception("execution %s cannot move on", execution_id)

    async def _go_on(self, actor: Actor, turn: Collection[str] | None = None) -> Execution:
        async with actor.lock:
            return await self._decide(actor, None, turn)
