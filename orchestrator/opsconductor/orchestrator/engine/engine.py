"""The engine: takes commands and reports, commits what the domain makes of them, then acts.

One execution moves under its own lock; every move is worked out in memory, committed in one
transaction, and only then told to callers and agents. A failed commit leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain import events as ev
from opsconductor.orchestrator.domain.advance import next_deadline
from opsconductor.orchestrator.domain.fold import apply, fold
from opsconductor.orchestrator.domain.place import Grant, locks_of, place, ready_steps
from opsconductor.orchestrator.domain.states import AttemptState, ExecutionState
from opsconductor.orchestrator.engine.actor import Actor, AtRest, Change, read
from opsconductor.orchestrator.engine.assignments import assignment
from opsconductor.orchestrator.engine.timers import Timers
from opsconductor.orchestrator.engine.waiting import NOT_ITS_TURN, Waiting
from opsconductor.rpc.errors import NotFound, OpsConductorError
from opsconductor.rpc.failpoints import hit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.domain.execution import Attempt, Execution
    from opsconductor.orchestrator.engine.fleet import Fleet
    from opsconductor.orchestrator.engine.listeners import Listeners
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

LAZY_FLUSH = 0.05  # seconds; a start nobody waits for is written with the next commit or then
RETRY_AFTER_STORE_ERROR = 1.0  # seconds
ENDED_KEPT = 32  # executions in memory: who waited for an end reads it right then


class Engine:
    """Moves executions forward."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        listeners: Listeners,
        clock: Callable[[], datetime],
        on_finished: Callable[[Execution], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._listeners = listeners
        self._clock = clock
        self._on_finished = on_finished
        self._actors: dict[str, Actor] = {}
        self._at_rest = AtRest()
        self._attempts: dict[str, str] = {}
        self._waiting = Waiting()
        self._timers = Timers(clock)
        self._wake_placement = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._moves: set[asyncio.Task[Execution]] = set()

    # Life

    async def start(self) -> None:
        """Loads every open execution and lets each go on from where the log ends."""
        for execution_id in await self._store.open_executions():
            self._adopt(await self._load(execution_id), self._clock())
        self._spawn(self._run_deadlines())
        self._spawn(self._run_placement())
        for execution_id in list(self._actors):
            await self._advance_quietly(execution_id)

    async def stop(self) -> None:
        """Writes what is unwritten and ends the engine's own tasks; executions stay as they are."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*self._moves, return_exceptions=True)
        for actor in list(self._actors.values()):
            if actor.unwritten:
                async with actor.lock:
                    await self._commit(Change(actor, actor.state, []))

    # Commands

    async def begin(self, submitted: ev.Submitted) -> Execution:
        """Starts an execution: returns after its first commit, possibly with granted steps."""
        return await self._to_its_end(self._begin(submitted))

    async def _begin(self, submitted: ev.Submitted) -> Execution:
        now = self._clock()
        first = ev.Recorded(1, now, submitted)
        state = fold(None, [first])
        actor = Actor(state)
        change = Change(actor, state, [first])
        async with actor.lock:
            hit("submit.before_commit")
            state = await self._move(change, now)
            hit("submit.after_commit_before_reply")
        return state

    async def command(
        self, execution_id: str, decide: Callable[[Execution, datetime], Sequence[ev.Event]]
    ) -> Execution:
        """Applies what a person or an agent wants of an execution; a refusal changes nothing.

        Raises:
            NotFound: There is no such execution.
            OpsConductorError: ``decide`` refused.
        """
        return await self._to_its_end(self._command(execution_id, decide))

    async def _command(
        self, execution_id: str, decide: Callable[[Execution, datetime], Sequence[ev.Event]]
    ) -> Execution:
        actor = self._actors.get(execution_id) or await self._load(execution_id)
        async with actor.lock:
            await self._remove_doubt(actor)
            now = self._clock()
            events = decide(actor.state, now)
            if not events:
                return actor.state
            change = Change(actor, actor.state, [])
            change.extend(events, now)
            return await self._move(change, now)

    async def note(self, attempt_id: str, event: ev.AttemptStarted) -> None:
        """Takes a start nobody waits for; it is written with the next commit, or shortly after."""
        execution_id = await self.execution_of(attempt_id)
        actor = self._actors.get(execution_id)
        if actor is None:
            return
        async with actor.lock:
            if actor.state.attempts[attempt_id].state is not AttemptState.GRANTED:
                return
            # What follows from the passing of time is left to a move, which also acts on it.
            item = ev.Recorded(actor.state.last_seq + 1, self._clock(), event)
            actor.state = apply(actor.state, item)
            actor.unwritten.append(item)
        asyncio.get_running_loop().call_later(LAZY_FLUSH, self._flush_soon, execution_id)

    # Reading

    async def execution(self, execution_id: str) -> Execution:
        """Returns an execution, open or finished. Raises NotFound."""
        actor = self._actors.get(execution_id) or self._at_rest.get(execution_id)
        return actor.state if actor else (await self._load(execution_id)).state

    def open_states(self) -> Iterable[Execution]:
        """Returns every open execution."""
        return [actor.state for actor in self._actors.values()]

    async def execution_of(self, attempt_id: str) -> str:
        """Returns the execution an attempt belongs to. Raises NotFound."""
        if execution_id := self._attempts.get(attempt_id):
            return execution_id
        row = await self._store.attempt(attempt_id)
        if row is None:
            raise NotFound(f"there is no attempt {attempt_id}")
        return row.execution_id

    def waiting_reason(self, execution_id: str, step_id: str) -> str:
        """Returns why a ready step has no agent yet; empty when it is not waiting."""
        return self._waiting.reasons(execution_id).get(step_id, "")

    def place_soon(self) -> None:
        """Looks again for agents for what waits."""
        self._wake_placement.set()

    def send(self, state: Execution, attempt: Attempt) -> None:
        """Sends a granted attempt to its agent, if that is connected; may be repeated."""
        member = self._fleet.get(attempt.agent_id)
        if member and member.session:
            member.session.assign(assignment(state, attempt))

    # Moving

    async def _to_its_end(self, move: Coroutine[None, None, Execution]) -> Execution:
        """Carries a move to its end even when its caller is cancelled.

        A caller that hangs up during a commit must not leave memory behind what was written.
        """
        task = asyncio.ensure_future(move)
        self._moves.add(task)
        task.add_done_callback(self._move_ended)
        return await asyncio.shield(task)

    def _move_ended(self, task: asyncio.Task[Execution]) -> None:
        self._moves.discard(task)
        if not task.cancelled():
            task.exception()  # told to the caller, if there still is one

    async def _remove_doubt(self, actor: Actor) -> None:
        """Reads again what is written after a commit whose end was not seen; the lock is held."""
        if not actor.doubtful or actor.written is None:
            return
        known = set(actor.state.attempts)
        held = list(actor.state.live_attempts())
        fresh = await read(self._store, actor.state.execution_id)
        for attempt in held:
            if not fresh.state.attempts[attempt.attempt_id].live:
                self._fleet.release(attempt.agent_id, attempt.attempt_id)
        actor.state = actor.written = fresh.state
        actor.head, actor.unwritten, actor.doubtful = fresh.head, [], False
        if not actor.state.open:
            self._forget(actor.state)
            return
        self._adopt(actor, self._clock())
        for attempt in actor.state.live_attempts():
            if attempt.attempt_id not in known:
                self.send(actor.state, attempt)
        if actor.state.state is ExecutionState.CANCELLING or actor.state.stopping == "timeout":
            self._cancel_live(actor.state)

    async def _move(
        self, change: Change, now: datetime, turn: Collection[str] | None = None
    ) -> Execution:
        """Settles, places, commits and acts; the actor's lock is held."""
        change.extend((), now)
        waited = self._waiting.reasons(change.state.execution_id)
        ended = self._release_ended(change)
        grants = self._place(change, now, turn)
        try:
            await self._commit(change)
        except BaseException:
            change.actor.doubtful = True
            self._waiting.put(change.state.execution_id, waited)
            for grant, attempt_id in grants:
                self._fleet.release(grant.agent_id, attempt_id)
            for attempt in ended:
                self._take(change.state, attempt)
            raise
        hit("grant.after_commit_before_send")
        for _, attempt_id in grants:
            self.send(change.state, change.state.attempts[attempt_id])
        self._act(change, now)
        # Only now: before the commit nobody who gives out turns would find it.
        if turn is None and self._waiting.passed_over(change.state.execution_id):
            self._wake_placement.set()
        return change.state

    def _place(
        self, change: Change, now: datetime, turn: Collection[str] | None
    ) -> list[tuple[Grant, str]]:
        """Adds grants for what is ready; while others wait, only for steps whose turn it is."""
        state = change.state
        ready = ready_steps(state, now)
        known = self._waiting.reasons(state.execution_id)
        if not ready:
            self._waiting.put(state.execution_id, {})
            return []
        if turn is None and self._waiting.others(state.execution_id):
            turn = ()
        mine = [item for item in ready if turn is None or item.step_id in turn]
        placement = place(mine, self._fleet.views(state.tenant), self._fleet.holds)
        reasons = {item.step_id: known.get(item.step_id, NOT_ITS_TURN) for item in ready}
        reasons |= {item.step_id: reason for item, reason in placement.waiting}
        for grant in placement.grants:
            del reasons[grant.step.step_id]
        self._waiting.put(state.execution_id, reasons)
        granted = [(grant, change.grant(grant, now)) for grant in placement.grants]
        for grant, attempt_id in granted:
            self._fleet.take(grant.agent_id, attempt_id, grant.step.locks)
        return granted

    async def _commit(self, change: Change) -> None:
        actor = change.actor
        if not change.recorded and not actor.unwritten:
            return
        operations, head = change.operations()
        hit("grant.before_commit")
        await self._store.commit(*operations)
        actor.state = actor.written = change.state
        actor.head = head
        actor.unwritten = []
        actor.doubtful = False

    def _act(self, change: Change, now: datetime) -> None:
        """Does what follows a commit: bookkeeping, cancels, watchers, timers."""
        state = change.state
        self._adopt(change.actor, now)
        for item in change.recorded:
            if isinstance(item.event, ev.CancelRequested | ev.PlanTimedOut):
                self._cancel_live(state)
            elif isinstance(item.event, ev.ExecutionFinished):
                self._on_finished(state)
        self._listeners.notify(state.execution_id)
        if not state.open:
            self._forget(state)

    def _adopt(self, actor: Actor, now: datetime) -> None:
        state = actor.state
        self._actors[state.execution_id] = actor
        for attempt in state.live_attempts():
            self._attempts[attempt.attempt_id] = state.execution_id
            self._take(state, attempt)
        deadline = next_deadline(state, now)
        if deadline and deadline != actor.timer:
            actor.timer = deadline
            self._timers.put(deadline, state.execution_id)

    def _forget(self, state: Execution) -> None:
        if actor := self._actors.pop(state.execution_id, None):
            self._at_rest.put(actor)
        self._waiting.put(state.execution_id, {})
        for attempt_id in state.attempts:
            self._attempts.pop(attempt_id, None)

    def _take(self, state: Execution, attempt: Attempt) -> None:
        locks = locks_of(state.compiled_step(attempt.step_id))
        self._fleet.take(attempt.agent_id, attempt.attempt_id, locks)

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
            self._wake_placement.set()
        return ended

    def _cancel_live(self, state: Execution) -> None:
        hit("cancel.after_commit")
        for attempt in state.live_attempts():
            member = self._fleet.get(attempt.agent_id)
            if member and member.session:
                member.session.cancel(attempt.attempt_id, state.reason)

    async def _load(self, execution_id: str) -> Actor:
        fresh = await read(self._store, execution_id)
        # Whoever else loaded it meanwhile has to share one lock.
        return self._actors.get(execution_id) or self._at_rest.share(fresh)

    # Background work

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _flush_soon(self, execution_id: str) -> None:
        actor = self._actors.get(execution_id)
        if actor and actor.unwritten:
            self._spawn(self._advance_quietly(execution_id))

    async def _advance_quietly(
        self, execution_id: str, turn: Collection[str] | None = None
    ) -> None:
        """Moves an execution on; a store that does not answer is asked again later."""
        actor = self._actors.get(execution_id)
        if actor is None:
            return
        try:
            await self._to_its_end(self._go_on(actor, turn))
        except OpsConductorError as exc:
            LOG.warning(
                "execution %s could not move on and is tried again: %s", execution_id, exc.message
            )
            asyncio.get_running_loop().call_later(
                RETRY_AFTER_STORE_ERROR,
                lambda: self._spawn(self._advance_quietly(execution_id)),
            )
        except Exception:
            # One execution that cannot be worked with must not keep all others from moving.
            LOG.exception("execution %s cannot move on", execution_id)

    async def _go_on(self, actor: Actor, turn: Collection[str] | None) -> Execution:
        async with actor.lock:
            await self._remove_doubt(actor)
            return await self._move(Change(actor, actor.state, []), self._clock(), turn)

    async def _run_deadlines(self) -> None:
        """Asks executions again when one of their times has come."""
        while True:
            execution_id = await self._timers.next()
            if actor := self._actors.get(execution_id):
                actor.timer = None
            await self._advance_quietly(execution_id)

    async def _run_placement(self) -> None:
        """Places everything that waits, fairly over all executions, whenever something is free."""
        while True:
            await self._wake_placement.wait()
            self._wake_placement.clear()
            turns = self._waiting.next_turns(self.open_states(), self._fleet, self._clock())
            for execution_id, step_ids in turns.items():
                await self._advance_quietly(execution_id, step_ids)
