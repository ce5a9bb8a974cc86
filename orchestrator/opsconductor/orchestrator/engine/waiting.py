"""Steps that are ready and have no agent yet: why each waits, and whose turn comes next."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from opsconductor.orchestrator.domain.executions.place import able, place
from opsconductor.orchestrator.domain.executions.rooms import Rooms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.place import AgentView, Demand, ReadyStep
    from opsconductor.orchestrator.engine.fleet import Fleet

NOT_ITS_TURN = "waits for its turn"
LOOKED_AT = 64
"""Of executions that wait for the same, so many more than there are places are looked at."""


class Kind(NamedTuple):
    """What steps have in common that wait for the same: one cannot start, none can."""

    priority: int
    demand: tuple[object, ...]
    locks: tuple[tuple[str, int], ...]
    refuses: bool


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits of one execution."""

    tenant: str = ""
    steps: tuple[ReadyStep, ...] = ()
    passed_over: bool = False
    """Whether one of them waits only because others come first."""


@dataclass(slots=True)
class Waited:
    """How many steps wait that want the same of an agent."""

    demand: Demand
    steps: int = 0


_NOTHING = Queue()


class Waiting:
    """Ready steps without an agent, by execution and by what they wait for.

    They are kept apart from the executions: while one waits, nothing else of it needs to be in
    memory, and turns are given out without a look at what cannot start.
    """

    def __init__(self) -> None:
        self._queues: dict[str, Queue] = {}
        self._called: set[str] = set()
        """Executions whose turn came while they were being written for the first time."""
        self._steps: Counter[str] = Counter()
        self._targets: Counter[tuple[str, str]] = Counter()
        self._demands: dict[tuple[str, tuple[object, ...]], Waited] = {}
        self._kinds: defaultdict[str, dict[Kind, dict[str, list[ReadyStep]]]] = defaultdict(dict)

    def __bool__(self) -> bool:
        """Tells whether anything waits."""
        return bool(self._queues)

    def others(self, execution_id: str) -> bool:
        """Tells whether anything of other executions waits."""
        return len(self._queues) > (execution_id in self._queues)

    def call(self, execution_id: str) -> None:
        """Notes that it is the turn of an execution nobody can move yet."""
        self._called.add(execution_id)

    def asks_again(self, execution_id: str) -> bool:
        """Tells whether turns are to be given again once an execution is written.

        It waits only because others come first, or its turn came meanwhile.
        """
        return self.of(execution_id).passed_over or execution_id in self._called

    def steps_of(self, tenant: str) -> int:
        """Returns how many steps of a tenant wait."""
        return self._steps[tenant]

    def at_target(self, tenant: str, target: str) -> int:
        """Returns how many steps wait to run on a target."""
        return self._targets[tenant, target]

    def demands(self, tenant: str) -> Iterator[Waited]:
        """Yields what a tenant's steps wait for and how many do; it differs in little."""
        return (item for (owner, _), item in self._demands.items() if owner == tenant)

    def of(self, execution_id: str) -> Queue:
        """Returns what waits of an execution."""
        return self._queues.get(execution_id, _NOTHING)

    def reason(self, execution_id: str, step_id: str, fleet: Fleet) -> str:
        """Returns why a step waits; empty when it does not."""
        queue = self.of(execution_id)
        steps = [item for item in queue.steps if item.step_id == step_id]
        if not steps:
            return ""
        placement = place(steps, fleet.views(queue.tenant), fleet.holds)
        return placement.waiting[0][1] if placement.waiting else NOT_ITS_TURN

    def put(self, execution_id: str, queue: Queue = _NOTHING) -> None:
        """Replaces what waits of an execution; by nothing, if nothing is given."""
        self._called.discard(execution_id)
        if before := self._queues.pop(execution_id, None):
            self._steps[before.tenant] -= len(before.steps)
            self._count(before, -1)
            kinds = self._kinds[before.tenant]
            for kind in {_kind(item) for item in before.steps}:
                del kinds[kind][execution_id]
                if not kinds[kind]:
                    del kinds[kind]
        if not queue.steps:
            return
        self._queues[execution_id] = queue
        self._steps[queue.tenant] += len(queue.steps)
        self._count(queue, 1)
        for item in queue.steps:
            same = self._kinds[queue.tenant].setdefault(_kind(item), {})
            same.setdefault(execution_id, []).append(item)

    def _count(self, queue: Queue, sign: int) -> None:
        for step in queue.steps:
            at = (queue.tenant, step.target)
            self._targets[at] += sign
            if not self._targets[at]:
                del self._targets[at]
            key = (queue.tenant, _wants(step.demand))
            waited = self._demands.setdefault(key, Waited(step.demand))
            waited.steps += sign
            if not waited.steps:
                del self._demands[key]

    def next_turns(self, fleet: Fleet, now: datetime) -> dict[str, set[str]]:
        """Returns the steps that would get an agent now by execution, most urgent first."""
        turns: defaultdict[str, set[str]] = defaultdict(set)
        for tenant, kinds in self._kinds.items():
            views, holds = fleet.views(tenant), fleet.holds
            candidates = list(_candidates(kinds, views, holds))
            placement = place(candidates, views, holds, now)
            for step in (*(grant.step for grant in placement.grants), *_first(placement.refused)):
                turns[step.execution_id].add(step.step_id)
        return turns


def _candidates(
    kinds: Mapping[Kind, Mapping[str, Sequence[ReadyStep]]],
    fleet: Sequence[AgentView],
    holds: Mapping[str, int],
) -> Iterator[ReadyStep]:
    """Yields the steps that might start: of each kind that can, those in front."""
    rooms = Rooms(fleet)
    for kind, executions in kinds.items():
        step = next(iter(executions.values()))[0]
        conflict = any(holds.get(key, 0) >= room for key, room in kind.locks)
        places = 0 if conflict else sum(_places(step.demand, fleet, rooms))
        if not places and not (conflict and kind.refuses):
            continue
        for steps in islice(executions.values(), places + LOOKED_AT):
            yield from steps[: places + 1]


def _places(demand: Demand, fleet: Iterable[AgentView], rooms: Rooms) -> Iterator[int]:
    """Yields how much each agent that could run something may take now."""
    for agent in fleet:
        if agent.ready and demand.tool not in agent.kept_tools and able(demand, agent):
            yield max(rooms.left(agent), 0)


def _kind(step: ReadyStep) -> Kind:
    return Kind(step.priority, _wants(step.demand), step.locks, step.refuses)


def _wants(demand: Demand) -> tuple[object, ...]:
    return (
        *(demand.location, demand.method, demand.connection, demand.segment),
        *(demand.agent_id, demand.tool, *sorted(demand.labels.items())),
    )


def _first(refused: Iterable[tuple[ReadyStep, str]]) -> Iterator[ReadyStep]:
    return (step for step, _ in refused)
