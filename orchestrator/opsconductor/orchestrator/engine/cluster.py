"""The cluster: lives among other orchestrators on one store, and shares the work with them.

What the store says is the truth and is looked at about once a second; hints only make that sooner.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from opsconductor.orchestrator.store.rows import SessionRow
from opsconductor.orchestrator.store.sharing import (
    ClaimExecutions,
    JoinReplicas,
    LeaveReplicas,
    PutSessions,
    RenewReplica,
)
from opsconductor.rpc.errors import OpsConductorError
from opsconductor.rpc.failpoints import hit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from datetime import datetime

    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.fleet import Fleet
    from opsconductor.orchestrator.engine.neighbours import Neighbours
    from opsconductor.orchestrator.engine.replica import Replica
    from opsconductor.orchestrator.store.news import News
    from opsconductor.orchestrator.store.rows import Look
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

LOOK = 1.0  # seconds between two looks, if the lease is not short
RENEWALS = 5  # in the time of a lease
CLAIMED_AT_ONCE = 50
"""Whoever takes over takes so many, then leaves the next to others."""
TAKEN_AT_ONCE = 8
CONSIDERED_AT_ONCE = 200
HINTS_TOGETHER = 0.02  # seconds
PATIENCE = 3.0  # seconds with the store when this orchestrator ends


class Cluster:
    """Keeps this orchestrator alive in the store and its executions true to it."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        fleet: Fleet,
        neighbours: Neighbours,
        replica: Replica,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._engine = engine
        self._fleet = fleet
        self._neighbours = neighbours
        self._replica = replica
        self._clock = clock
        self._interval = min(LOOK, replica.lease.total_seconds() / RENEWALS)
        self._published: dict[str, SessionRow] = {}
        self._asked = float("-inf")
        self._steady_since = float("inf")
        self._considered = 0
        self._wake = asyncio.Event()
        self._end = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # Life

    async def start(self) -> None:
        """Joins the others and takes what nobody moves; then lives on in the background."""
        await self._join(instead=True)
        self._store.listen(self._heard)
        await self.renew()
        await self.look()
        self.go_on()

    def go_on(self) -> None:
        """Renews the lease and looks around in the background."""
        self._end.clear()
        self._tasks = [
            asyncio.create_task(self._run_renewals(), name="cluster-renew"),
            asyncio.create_task(self._run_looks(), name="cluster-look"),
        ]

    async def rest(self) -> None:
        """Ends what goes on in the background; what is being asked of the store is waited for."""
        self._end.set()
        self._wake.set()
        await asyncio.wait(self._tasks, timeout=PATIENCE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def leave(self) -> None:
        """Leaves what it moves to the others at once, and grants nothing any more."""
        await self.rest()
        await self._engine.flush()
        self._replica.release()
        try:
            await self._store.commit(LeaveReplicas(self._replica.replica_id))
        except OpsConductorError as exc:
            LOG.warning("what this orchestrator moved is free when its lease ends: %s", exc.message)
        self._engine.drop_all()

    async def _join(self, *, instead: bool = False) -> None:
        replica = self._replica
        self._asked = replica.boottime()
        self._published = {}
        await self._store.commit(
            JoinReplicas(replica.rename(self._clock()), replica.address, replica.lease, instead)
        )
        replica.renewed(self._asked)
        LOG.info("orchestrator %s at %s", replica.replica_id, replica.address)

    # Staying alive

    async def renew(self) -> None:
        """Lets this orchestrator live on; one that was given up starts anew under another name."""
        replica, asked = self._replica, self._replica.boottime()
        lease = replica.lease.total_seconds()
        if asked - self._asked > lease / 2:
            # Frozen, or without a store: the others may have been as well.
            self._steady_since = asked
        self._steady_since = min(self._steady_since, asked)
        sessions = self._sessions_now()
        changes = self._changes(sessions)
        version = self._store.version + len(changes)
        renewal = RenewReplica(replica.replica_id, replica.lease, version)
        (alive, *_) = await self._store.commit(renewal, *changes)
        if not alive:
            await self._start_anew()
            return
        self._published, self._asked = sessions, asked
        # Only now: it may also have run out while the store was asked. What came up then, timers
        # above all, was let pass.
        lapsed = not replica.may_act()
        replica.renewed(asked)
        if lapsed:
            for state in list(self._engine.open_states()):
                self._engine.look_again(state.execution_id)

    async def _start_anew(self) -> None:
        """Forgets what others have taken over; agents connect again, under new epochs."""
        LOG.warning("orchestrator %s was given up by the others", self._replica.replica_id)
        self._replica.release()
        self._engine.drop_all()
        for member in self._fleet.members():
            if member.session is not None:
                member.session.close("the orchestrator was given up by the others: connect again")
        await self._join()
        self._wake.set()

    def _sessions_now(self) -> dict[str, SessionRow]:
        return {
            member.agent_id: SessionRow(
                member.agent_id,
                self._replica.replica_id,
                member.session.epoch,
                str(member.state),
            )
            for member in self._fleet.members()
            if member.session is not None and not member.quarantined
        }

    def _changes(self, sessions: dict[str, SessionRow]) -> list[PutSessions]:
        opened = [row for key, row in sessions.items() if self._published.get(key) != row]
        closed = [key for key in self._published if key not in sessions]
        if not opened and not closed:
            return []
        return [PutSessions(self._replica.replica_id, tuple(opened), tuple(closed))]

    # Looking around

    async def look(self) -> None:
        """Takes over what nobody moves, and reads on wherever others wrote."""
        replica_id = self._replica.replica_id
        steady = self._replica.boottime() - self._steady_since
        lapsed = self._replica.may_act() and steady >= self._replica.lease.total_seconds()
        known = self._engine.moving()
        (claimed,) = await self._store.commit(
            ClaimExecutions(replica_id, CLAIMED_AT_ONCE, lapsed=lapsed)
        )
        if claimed:
            LOG.warning("%d executions that nobody moved are moved here now", len(claimed))
            hit("lease.take")
        if len(claimed) == CLAIMED_AT_ONCE:
            self._wake.set()
        seen = await self._store.look(replica_id)
        self._compare(seen, known)
        await self._neighbours.look(seen.replicas)
        await self._follow(seen, known)
        await self._hand_on()
        self._engine.place_soon()

    def _compare(self, seen: Look, known: Mapping[str, int]) -> None:
        """Notices that the store has less than was written: it lost commits."""
        for execution_id, last_seq in seen.moved.items():
            if last_seq < known.get(execution_id, 0):
                reason = f"event {known[execution_id]} of {execution_id} was written and is gone"
                self._engine.went_back(reason)
                return

    async def _follow(self, seen: Look, known: Iterable[str]) -> None:
        moving = self._engine.moving()
        for execution_id in known:
            if execution_id not in seen.moved:
                self._engine.look_again(execution_id)
        for execution_id, last_seq in seen.moved.items():
            if last_seq > moving.get(execution_id, last_seq):
                self._engine.look_again(execution_id)
        mine = [execution_id for execution_id in seen.moved if execution_id not in moving]
        for first in range(0, len(mine), TAKEN_AT_ONCE):
            batch = mine[first : first + TAKEN_AT_ONCE]
            await asyncio.gather(*(self._engine.take_over(item) for item in batch))

    async def _hand_on(self) -> None:
        """Hands to others what only they can go on with, since they talk with its agents."""
        if not any(m.session is None and m.elsewhere for m in self._fleet.members()):
            return
        names = list(self._engine.moving())
        # Not all at once where thousands wait: the next looks get to the rest.
        self._considered %= max(len(names), 1)
        turn = names[self._considered :][:CONSIDERED_AT_ONCE]
        self._considered += CONSIDERED_AT_ONCE
        for execution_id in turn:
            if to := self._engine.better_placed(execution_id):
                LOG.info("execution %s goes to orchestrator %s", execution_id, to)
                await self._engine.pass_on(execution_id, to)

    def _heard(self, news: News) -> None:
        for execution_id in news.executions:
            self._engine.look_again(execution_id)
        if news.around or (news.locks and self._engine.waiting):
            self._wake.set()

    # Background

    async def _run_renewals(self) -> None:
        while not self._end.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._end.wait()
                    return
            await _quietly(self.renew)

    async def _run_looks(self) -> None:
        while not self._end.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._wake.wait()
                    await asyncio.sleep(HINTS_TOGETHER)
            if self._end.is_set():
                return
            self._wake.clear()
            await _quietly(self.look)


async def _quietly(work: Callable[[], Awaitable[None]]) -> None:
    """Does what is done again soon, whatever happens."""
    try:
        await work()
    except OpsConductorError as exc:
        LOG.warning("the store is asked again soon: %s", exc.message)
    except Exception:
        LOG.exception("looking around failed")
