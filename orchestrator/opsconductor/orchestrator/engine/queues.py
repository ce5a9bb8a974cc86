"""Queues: how much waits for a tenant, a segment, an agent and a target, and whether more may."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions.place import able, demand_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from opsconductor.orchestrator.domain.executions.place import AgentView, Demand
    from opsconductor.orchestrator.engine.fleet import Fleet
    from opsconductor.orchestrator.engine.limits import Limits
    from opsconductor.orchestrator.engine.waiting import Waiting

    Wanted = Sequence[tuple[str, Mapping[str, Any]]]
    """Target and body of each step of a plan."""


@dataclass(frozen=True)
class TooMany:
    """Why no more may wait."""

    message: str
    surplus: int


@dataclass(frozen=True)
class _Queue:
    """One queue, and what a plan would add to it."""

    name: str
    limit: int
    waiting: int
    more: int

    def check(self) -> TooMany | None:
        # Whatever is alone in a queue is taken: waiting would not make it smaller.
        if not self.limit or not self.waiting or self.waiting + self.more <= self.limit:
            return None
        return TooMany(
            f"{self.waiting} steps wait for {self.name}, {self.limit} are allowed and this plan "
            f"has {self.more}",
            self.waiting + self.more - self.limit,
        )


class Queues:
    """Looks at the queues that a plan's steps would join."""

    def __init__(self, waiting: Waiting, fleet: Fleet, limits: Limits) -> None:
        self._waiting = waiting
        self._fleet = fleet
        self._limits = limits

    def full(self, tenant: str, steps: Wanted) -> TooMany | None:
        """Returns the first queue that has no room for some steps; None when all have."""
        limits, waiting = self._limits, self._waiting.steps_of(tenant)
        smallest = (
            limits.waiting_steps,
            *(limits.segment_waiting_steps, limits.agent_waiting_steps),
            limits.target_waiting_steps,
        )
        # Nearly always: no queue holds more than all queues of the tenant together.
        if waiting + len(steps) <= min((limit for limit in smallest if limit), default=0):
            return None
        whole = _Queue(f"tenant {tenant}", limits.waiting_steps, waiting, len(steps))
        queues = (whole, *self._parts(tenant, steps))
        return next((full for queue in queues if (full := queue.check())), None)

    def _parts(self, tenant: str, steps: Wanted) -> Iterator[_Queue]:
        limits, agents = self._limits, self._fleet.views(tenant)
        demands = [demand_of(body) for _, body in steps]
        waited = [(item.demand, item.steps) for item in self._waiting.demands(tenant)]
        segments = Counter(demand.segment for demand in demands if demand.segment)
        for segment, more in segments.items():
            count = sum(steps for demand, steps in waited if demand.segment == segment)
            yield _Queue(f"segment {segment}", limits.segment_waiting_steps, count, more)
        for agent, more in Counter(_only(demands, agents)).items():
            count = sum(n for demand, n in waited if agent in _only((demand,), agents))
            yield _Queue(f"agent {agent}", limits.agent_waiting_steps, count, more)
        for target, more in Counter(target for target, _ in steps if target).items():
            count = self._waiting.at_target(tenant, target)
            yield _Queue(f"target {target}", limits.target_waiting_steps, count, more)


def _only(demands: Iterable[Demand], agents: Sequence[AgentView]) -> Iterator[str]:
    """Yields the agents that alone could do something, once for each that they could."""
    for demand in demands:
        found = [agent.name for agent in agents if able(demand, agent)]
        if len(found) == 1:
            yield found[0]
