"""Admission: how much may wait at a time, and when to come again with what is too much."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.orchestrator.engine.queues import Queues
from opsconductor.rpc.errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.domain.plans.compiled import CompiledStep
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.fleet import Fleet
    from opsconductor.orchestrator.engine.limits import Limits
    from opsconductor.orchestrator.store.store import Store

LOOK_AGAIN = timedelta(milliseconds=100)
"""A full queue is counted at most so often."""
SOONEST = timedelta(seconds=1)
LATEST = timedelta(seconds=60)


@dataclass
class _Tally:
    """What is known of a tenant's open executions."""

    counted: int = 0
    at: datetime | None = None
    admitted: int = 0
    """Since they were counted."""
    rate: float = 0.0
    """Executions that end a second, of late."""

    @property
    def most(self) -> int:
        """How many there can be at most."""
        return self.counted + self.admitted


class Admission:
    """Refuses what is beyond the limits; nothing of it is stored."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        fleet: Fleet,
        clock: Callable[[], datetime],
        limits: Limits,
    ) -> None:
        self._store = store
        self._engine = engine
        self._fleet = fleet
        self._clock = clock
        self._limits = limits
        self._tallies: dict[str, _Tally] = {}

    async def admit(self, tenant: str, steps: Sequence[CompiledStep]) -> None:
        """Lets an execution of some steps in. Raises QueueFull."""
        tally = self._tallies.setdefault(tenant, _Tally())
        limit = self._limits.open_executions
        if limit:
            if tally.at is None or tally.most >= limit:
                await self._count(tenant, tally)
            if tally.most >= limit:
                raise _full(
                    f"{tally.most} executions of tenant {tenant} are open, {limit} are allowed",
                    1 + tally.most - limit,
                    tally.rate,
                )
        queues = Queues(self._engine.waiting, self._fleet, self._limits)
        if too_many := queues.full(tenant, [(item.target_name, item.body) for item in steps]):
            await self._count(tenant, tally)
            raise _full(too_many.message, too_many.surplus, tally.rate)
        tally.admitted += 1

    async def _count(self, tenant: str, tally: _Tally) -> None:
        """Counts anew, now and then; what ended since tells how fast places become free."""
        if tally.at is not None and self._clock() - tally.at <= LOOK_AGAIN:
            return
        admitted = tally.admitted
        counted, now = await self._store.count_open(tenant), self._clock()
        if tally.at is not None and now > tally.at:
            ended = max(0, tally.counted + admitted - counted)
            tally.rate = (tally.rate + ended / (now - tally.at).total_seconds()) / 2
        tally.counted, tally.at = counted, now
        tally.admitted -= admitted


def _full(message: str, too_many: int, rate: float) -> QueueFull:
    seconds = too_many / rate if rate > 0 else LATEST.total_seconds()
    wait = min(max(timedelta(seconds=min(seconds, 3600)), SOONEST), LATEST)
    return QueueFull(f"{message}; nothing of it was stored", retry_after=wait)
