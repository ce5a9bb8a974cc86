"""Admission: how much may wait at a time, and when to come again with what is too much."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import InvalidArgument, QueueFull

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.store.store import Store

VARIABLES = "OPSCONDUCTOR_MAX_"
"""Prefix of the variables that set limits, such as OPSCONDUCTOR_MAX_OPEN_EXECUTIONS."""
LOOK_AGAIN = timedelta(milliseconds=100)
"""A full queue is counted at most so often."""
SOONEST = timedelta(seconds=1)
LATEST = timedelta(seconds=60)


@dataclass(frozen=True)
class Limits:
    """How much there may be at a time; 0 is no limit."""

    open_executions: int = 20_000
    """Executions of a tenant that have not ended."""
    waiting_steps: int = 100_000
    """Steps of a tenant that are ready and have no agent."""
    tenant_attempts: int = 0
    """Attempts of a tenant under way."""
    segment_attempts: int = 0
    """Attempts under way in each of a tenant's segments."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Limits:
        """Reads OPSCONDUCTOR_MAX_* variables. Raises InvalidArgument for what is no number."""
        given = {}
        for item in fields(cls):
            name = VARIABLES + item.name.upper()
            text = environment.get(name, "")
            if not text:
                continue
            if not text.isdecimal():
                raise InvalidArgument(f"{name} is {text!r}: expected a number, 0 for no limit")
            given[item.name] = int(text)
        return cls(**given)


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
        self, store: Store, engine: Engine, clock: Callable[[], datetime], limits: Limits
    ) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._limits = limits
        self._tallies: dict[str, _Tally] = {}

    async def admit(self, tenant: str, steps: int) -> None:
        """Lets an execution of so many steps in. Raises QueueFull."""
        tally = self._tallies.setdefault(tenant, _Tally())
        limit = self._limits.open_executions
        if limit:
            if tally.at is None or (tally.most >= limit and self._clock() - tally.at > LOOK_AGAIN):
                await self._count(tenant, tally)
            if tally.most >= limit:
                raise _full(
                    f"{tally.most} executions of tenant {tenant} are open, {limit} are allowed",
                    1 + tally.most - limit,
                    tally.rate,
                )
        waiting, room = self._engine.waiting.steps_of(tenant), self._limits.waiting_steps
        if room and waiting + steps > room:
            raise _full(
                f"{waiting} steps of tenant {tenant} wait, {room} are allowed and this plan has "
                f"{steps}",
                waiting + steps - room,
                tally.rate,
            )
        tally.admitted += 1

    async def _count(self, tenant: str, tally: _Tally) -> None:
        """Counts anew; what ended since the last time tells how fast places become free."""
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
