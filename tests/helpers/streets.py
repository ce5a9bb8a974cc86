"""Several orchestrators without their wire, in one process, over one PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.engines import House
from helpers.plans import FREE
from opsconductor.orchestrator.engine.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.domain.plans.policy import Policy

LEASE = timedelta(seconds=2)


@dataclass
class Street:
    """Orchestrators over one store; each can be frozen, killed and closed."""

    url: str
    houses: list[House] = field(default_factory=list)
    _ports: Any = field(default_factory=lambda: itertools.count(7001))

    async def open(self, policy: Policy = FREE) -> House:
        replica = Replica(
            shared=True,
            boottime=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
            address=f"127.0.0.1:{next(self._ports)}",
            lease=LEASE,
        )
        house = await House.open(self.url, policy, replica=replica)
        self.houses.append(house)
        return house

    async def freeze(self, house: House) -> None:
        """Stops a house's own clockwork, as SIGSTOP does; what it is asked it still does."""
        assert house.cluster is not None
        await house.cluster.rest()
        await self.deafen(house)

    async def deafen(self, house: House) -> None:
        """Keeps a house from hearing hints: what it sees, it finds by looking."""
        await house.store._database._hints.close()  # type: ignore[attr-defined]

    async def wake(self, house: House) -> None:
        """Lets a frozen house run again."""
        assert house.cluster is not None
        await house.cluster.renew()
        house.cluster.go_on()

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Waits for something of several houses."""
        for _ in range(1500):
            if holds():
                return
            await asyncio.sleep(0.01)
        pytest.fail(f"it never came about that {what}")


async def connected(street: Street, count: int = 2, name: str = "a1") -> list[House]:
    """Opens houses that all have a session with one agent."""
    houses = [await street.open() for _ in range(count)]
    await houses[0].enrol(name)
    for house in houses:
        await house.connect(name)
    return houses


async def events(house: House, run: Execution) -> list[str]:
    return [event.type for event in await house.store.events(run.execution_id)]
