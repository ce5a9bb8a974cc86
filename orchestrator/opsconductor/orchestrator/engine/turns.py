"""Turns: who is to move on because a time has come, because there is room, or was overlooked."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions.advance import advance, next_deadline
from opsconductor.orchestrator.domain.executions.place import ready_steps

if TYPE_CHECKING:
    from datetime import datetime

    from opsconductor.orchestrator.engine.actor import Actor
    from opsconductor.orchestrator.engine.clock_steps import ClockSteps
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.fleet import Fleet
    from opsconductor.orchestrator.engine.memory import Memory
    from opsconductor.orchestrator.engine.timers import Timers
    from opsconductor.orchestrator.engine.waiting import Waiting
    from opsconductor.orchestrator.engine.work import Work

LOG = logging.getLogger(__name__)

LOOK_THROUGH = 5.0  # seconds
LOOKED_AT_ONCE = 500
GRACE = timedelta(seconds=2)
"""What has been due for less is just being done."""


class Turns:
    """Asks executions to move on that nobody else asks."""

    def __init__(
        self,
        engine: Engine,
        memory: Memory,
        work: Work,
        timers: Timers,
        waiting: Waiting,
        fleet: Fleet,
        room: asyncio.Event,
        clock_steps: ClockSteps,
    ) -> None:
        """Takes an event that is set when there may be room for what waits."""
        self._engine = engine
        self._memory = memory
        self._work = work
        self._timers = timers
        self._waiting = waiting
        self._fleet = fleet
        self._room = room
        self._clock_steps = clock_steps
        self._clock = clock_steps.now
        clock_steps.on_step = self._look_at_the_clock
        self._looked_at = 0

    async def give_by_time(self) -> None:
        """Asks executions again when one of their times has come."""
        while True:
            execution_id = await self._timers.next()
            if actor := self._memory.moving.get(execution_id):
                actor.timer = None
            await self._engine.advance(execution_id)

    def _look_at_the_clock(self) -> None:
        """Asks all again that may wait for a time, for the clock was set."""
        for execution_id in self._memory.moving:
            self._work.start(self._engine.advance(execution_id))
        self._work.start(self._give_one_after_another(self._timers.waiting()))

    async def _give_one_after_another(self, execution_ids: list[str]) -> None:
        for execution_id in execution_ids:  # there may be thousands out of memory
            if execution_id in self._memory.resting:
                await self._engine.advance(execution_id)

    async def give_by_room(self) -> None:
        """Places everything that waits, fairly over all executions, whenever something is free."""
        while True:
            await self._room.wait()
            self._room.clear()
            turns = self._waiting.next_turns(self._fleet, self._clock())
            for execution_id in turns:
                if not self._memory.knows(execution_id):  # its first commit is under way
                    self._waiting.call(execution_id)
            # Together: what is granted at one time is written at one time.
            await asyncio.gather(
                *(self._engine.advance(name, steps) for name, steps in turns.items())
            )

    async def look_through(self) -> None:
        """Finds executions that could go on and wait for nothing; there should be none."""
        while True:
            await asyncio.sleep(LOOK_THROUGH)
            found = self.overlooked()
            if found:
                LOG.warning("%d executions were overlooked: %s", len(found), ", ".join(found[:10]))
            for execution_id in found:
                self._engine.look_again(execution_id)

    def overlooked(self) -> list[str]:
        """Returns which of the next executions could go on although nothing will ask them to."""
        actors = list(self._memory.moving.values())
        # Not all at once where thousands wait: the next looks get to the rest.
        self._looked_at %= max(len(actors), 1)
        turn = actors[self._looked_at :][:LOOKED_AT_ONCE]
        self._looked_at += LOOKED_AT_ONCE
        before, now = self._clock_steps.clock, self._clock()
        if self._clock_steps.clock is not before:
            return []  # it was set: all are asked anyway
        return [actor.state.execution_id for actor in turn if self._is_overlooked(actor, now)]

    def _is_overlooked(self, actor: Actor, now: datetime) -> bool:
        state, due = self._clock_steps.seen(actor.state), now - GRACE
        if actor.lock.locked() or state.execution_id in self._work.coming:
            return False
        if not self._engine.moves(state.execution_id):
            return False
        if actor.timer is not None and actor.timer <= due:
            return True
        later = next_deadline(state, now)
        if later is not None and (actor.timer is None or actor.timer > later):
            return True
        if ready_steps(state, due) and not self._waiting.of(state.execution_id).steps:
            return True
        return bool(advance(state, due))
