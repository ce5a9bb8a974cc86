"""The engine: takes commands and reports, commits what the domain makes of them, then acts.

One execution moves under its own lock; every move is worked out in memory, committed in one
transaction, and only then told to callers and agents. A failed commit leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain import events as ev
from opsconductor.orchestrator.domain.advance import next_deadline, settle
from opsconductor.orchestrator.domain.fold import fold
from opsconductor.orchestrator.domain.place import Grant, ReadyStep, locks_of, place, ready_steps
from opsconductor.orchestrator.engine import log
from opsconductor.orchestrator.engine.actor import Actor, Change
from opsconductor.orchestrator.engine.assignments import assignment
from opsconductor.rpc import ids
from opsconductor.rpc.errors import NotFound, OpsConductorError
from opsconductor.rpc.failpoints import hit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.domain.execution import Attempt, Execution
    from opsconductor.orchestrator.engine.fleet import Fleet
    from opsconductor.orchestrator.engine.listeners import Listeners
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

LAZY_FLUSH = 0.05  # seconds; a start nobody waits for is written with the next commit or then
RETRY_AFTER_STORE_ERROR = 1.0  # seconds
EVENTS_PER_READ = 1000


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
        self._attempts: dict[str, str] = {}
        self._waiting: dict[str, dict[str, str]] = {}
        self._deadlines: list[tuple[datetime, str]] = []
        self._wake_timer = asyncio.Event()
        self._wake_placement = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # Life

    async def start(self) -> None:
        """Loads every open execution and lets each go on from where the log ends."""
        for execution_id in await self._store.open_executions():
            actor = await self._load(execution_id)
            self._adopt(actor)
        self._spawn(self._run_deadlines())
        self._spawn(self._run_placement())
        for execution_id in list(self._actors):
            await self._advance_quietly(execution_id)

    async def stop(self) -> None:
        """Writes what is unwritten and ends the engine's own tasks; executions stay as they are."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for actor in list(self._actors.values()):
            if actor.unwritten:
                async with actor.lock:
                    await self._commit(Change(actor, actor.state, []))

    # Commands

    async def begin(self, submitted: ev.Submitted) -> Execution:
        """Starts an execution: returns after its first commit, possibly with granted steps."""
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
        actor = self._actors.get(execution_id) or await self._load(execution_id)
        async with actor.lock:
            now = self._clock()
            events = decide(actor.state, now)
            if not events:
                return actor.state
            change = Change(actor, actor.state, [])
            change.extend(events, now)
            return await self._move(change, now)

    async def note(self, attempt_id: str, event: ev.Event) -> None:
        """Takes a fact nobody waits for; it is written with the next commit, or shortly after."""
        execution_id = await self.execution_of(attempt_id)
        actor = self._actors.get(execution_id)
        if actor is None:
            return
        async with actor.lock:
            state, recorded = settle(actor.state, self._clock(), [event])
            actor.state = state
            actor.unwritten += recorded
        asyncio.get_running_loop().call_later(LAZY_FLUSH, self._flush_soon, execution_id)

    # Reading

    async def execution(self, execution_id: str) -> Execution:
        """Returns an execution, open or finished. Raises NotFound."""
        actor = self._actors.get(execution_id)
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
        return self._waiting.get(execution_id, {}).get(step_id, "")

    # Agents come, go, and free places

    def place_soon(self) -> None:
        """Looks again for agents for what waits."""
        self._wake_placement.set()

    def resend(self, state: Execution, attempt: Attempt) -> None:
        """Sends a granted attempt to its agent again."""
        self._send(state, attempt)

    # Moving

    async def _move(self, change: Change, now: datetime, *, its_turn: bool = False) -> Execution:
        """Settles, places, commits and acts; the actor's lock is held."""
        change.extend((), now)
        ended = self._release_ended(change)
        grants = self._place(change, now, its_turn=its_turn)
        try:
            await self._commit(change)
        except BaseException:
            for grant, attempt_id in grants:
                self._fleet.release(grant.agent_id, attempt_id)
            for attempt in ended:
                self._take(change.state, attempt)
            raise
        hit("grant.after_commit_before_send")
        for _, attempt_id in grants:
            self._send(change.state, change.state.attempts[attempt_id])
        self._act(change)
        return change.state

    def _place(self, change: Change, now: datetime, *, its_turn: bool) -> list[tuple[Grant, str]]:
        """Adds grants for what is ready; while others wait, only when it is this one's turn."""
        state = change.state
        ready = ready_steps(state, now)
        self._waiting.pop(state.execution_id, None)
        if not ready:
            return []
        if self._waiting and not its_turn:
            self._wait(state.execution_id, [(item, "waits for its turn") for item in ready])
            self._wake_placement.set()
            return []
        placement = place(ready, self._fleet.views(state.tenant), self._fleet.holds)
        self._wait(state.execution_id, placement.waiting)
        return self._grant(change, placement.grants, now)

    def _grant(
        self, change: Change, grants: Sequence[Grant], now: datetime
    ) -> list[tuple[Grant, str]]:
        granted = []
        for grant in grants:
            step = grant.step
            attempt_id = ids.attempt_id(step.execution_id, step.step_id, step.kind, step.number)
            self._fleet.take(grant.agent_id, attempt_id, step.locks)
            order = 1 + max((s.start_order for s in change.state.steps.values()), default=0)
            event = ev.AttemptGranted(
                attempt_id=attempt_id,
                step_id=step.step_id,
                kind=step.kind,
                number=step.number,
                agent_id=grant.agent_id,
                session_epoch=grant.session_epoch,
                routing_reason=grant.reason,
                start_order=order,
            )
            change.extend((event,), now)
            granted.append((grant, attempt_id))
        return granted

    def _wait(self, execution_id: str, waiting: Sequence[tuple[ReadyStep, str]]) -> None:
        if waiting:
            self._waiting[execution_id] = {item.step_id: reason for item, reason in waiting}

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

    def _act(self, change: Change) -> None:
        """Does what follows a commit: bookkeeping, cancels, watchers, timers."""
        state = change.state
        self._adopt(change.actor)
        for item in change.recorded:
            if isinstance(item.event, ev.CancelRequested | ev.PlanTimedOut):
                self._cancel_live(state)
            elif isinstance(item.event, ev.ExecutionFinished):
                self._on_finished(state)
        self._listeners.notify(state.execution_id)
        if not state.open:
            self._forget(state)

    def _adopt(self, actor: Actor) -> None:
        state = actor.state
        self._actors[state.execution_id] = actor
        for attempt in state.live_attempts():
            self._attempts[attempt.attempt_id] = state.execution_id
            self._take(state, attempt)
        deadline = next_deadline(state)
        if deadline and deadline > self._clock() and deadline != actor.timer:
            actor.timer = deadline
            heapq.heappush(self._deadlines, (deadline, state.execution_id))
            self._wake_timer.set()

    def _forget(self, state: Execution) -> None:
        self._actors.pop(state.execution_id, None)
        self._waiting.pop(state.execution_id, None)
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

    def _send(self, state: Execution, attempt: Attempt) -> None:
        member = self._fleet.get(attempt.agent_id)
        if member and member.session:
            member.session.assign(assignment(state, attempt))

    async def _load(self, execution_id: str) -> Actor:
        recorded: list[ev.Recorded] = []
        head = log.GENESIS
        while True:
            stored = await self._store.events(
                execution_id, from_seq=len(recorded) + 1, limit=EVENTS_PER_READ
            )
            recorded += log.read(stored)
            head = stored[-1].hash if stored else head
            if len(stored) < EVENTS_PER_READ:
                break
        if not recorded:
            raise NotFound(f"there is no execution {execution_id}")
        # Another caller may have loaded it while this one was reading.
        if actor := self._actors.get(execution_id):
            return actor
        state = fold(None, recorded)
        return Actor(state, head, written=state)

    # Background work

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _flush_soon(self, execution_id: str) -> None:
        actor = self._actors.get(execution_id)
        if actor and actor.unwritten:
            self._spawn(self._advance_quietly(execution_id))

    async def _advance_quietly(self, execution_id: str, *, its_turn: bool = False) -> None:
        """Moves an execution on; a store that does not answer is asked again later."""
        actor = self._actors.get(execution_id)
        if actor is None:
            return
        try:
            async with actor.lock:
                change = Change(actor, actor.state, [])
                await self._move(change, self._clock(), its_turn=its_turn)
        except OpsConductorError as exc:
            LOG.warning(
                "execution %s could not move on and is tried again: %s", execution_id, exc.message
            )
            asyncio.get_running_loop().call_later(
                RETRY_AFTER_STORE_ERROR,
                lambda: self._spawn(self._advance_quietly(execution_id)),
            )

    async def _run_deadlines(self) -> None:
        """Asks executions again when one of their times has come."""
        while True:
            self._wake_timer.clear()
            wait = None
            if self._deadlines:
                wait = (self._deadlines[0][0] - self._clock()).total_seconds()
                if wait <= 0:
                    _, execution_id = heapq.heappop(self._deadlines)
                    if actor := self._actors.get(execution_id):
                        actor.timer = None
                    await self._advance_quietly(execution_id)
                    continue
            try:
                async with asyncio.timeout(wait):
                    await self._wake_timer.wait()
            except TimeoutError:
                continue

    async def _run_placement(self) -> None:
        """Places everything that waits, fairly over all executions, whenever something is free."""
        while True:
            await self._wake_placement.wait()
            self._wake_placement.clear()
            for execution_id in self._next_turns():
                await self._advance_quietly(execution_id, its_turn=True)

    def _next_turns(self) -> list[str]:
        """Returns the waiting executions that would get an agent now, most urgent first."""
        now = self._clock()
        ready = [
            item
            for execution_id in self._waiting
            if (actor := self._actors.get(execution_id)) is not None
            for item in ready_steps(actor.state, now)
        ]
        placement = place(ready, self._fleet.views(), self._fleet.holds)
        return list(dict.fromkeys(grant.step.execution_id for grant in placement.grants))
