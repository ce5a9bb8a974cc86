"""``place``: which agent takes which ready step. Spans executions; pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions.execution import (
    FORWARD,
    UNDO,
    Attempt,
    Execution,
    StepRecord,
)
from opsconductor.orchestrator.domain.executions.locks import fails_on_conflict, in_words, locks_of
from opsconductor.orchestrator.domain.executions.rooms import Rooms
from opsconductor.orchestrator.domain.executions.states import (
    AttemptState,
    ExecutionState,
    StepState,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.domain.plans.compiled import CompiledStep


UNLIMITED = 2**31
CLOCKS_APART = timedelta(minutes=1)
"""By so much the clocks of several orchestrators may differ without one being thought set back."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What an agent must offer to run something."""

    location: str
    method: str
    connection: str = ""
    segment: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    agent_id: str = ""
    """Only this agent will do (an undo that restores what it captured); empty for any."""
    tool: str = ""


@dataclass(frozen=True, slots=True)
class ReadyStep:
    """A step, or the undo of one, that may start."""

    execution_id: str
    step_id: str
    kind: str
    number: int
    demand: Demand
    priority: int
    queued_at: datetime
    running: int = 0
    """Attempts its execution has already: who has less comes first."""
    locks: tuple[tuple[str, int], ...] = ()
    """(key, holders allowed) it must hold while it runs."""
    refuses: bool = False
    """Whether it would rather fail than wait for a lock."""
    target: str = ""
    """What it runs on; empty for the agent's own host."""


@dataclass(frozen=True)
class AgentView:
    """An agent as placement sees it."""

    agent_id: str
    name: str
    segment: str
    services: frozenset[str]
    methods: frozenset[str]
    labels: Mapping[str, str]
    capacity: int
    running: int
    session_epoch: int
    ready: bool
    """Whether it takes new work now."""
    held: str = ""
    """Why nobody is given work now, in words; empty when somebody is."""
    kept_tools: Mapping[str, str] = field(default_factory=dict)
    """Tools it is given no more, each with the reason."""
    segment_room: int = UNLIMITED
    """How much more may run in its segment."""
    tenant_room: int = UNLIMITED
    """How much more may run for its tenant."""


@dataclass(frozen=True)
class Grant:
    """A ready step with its agent."""

    step: ReadyStep
    agent_id: str
    session_epoch: int
    reason: str


@dataclass(frozen=True)
class Placement:
    """What can start now, and why the rest cannot."""

    grants: tuple[Grant, ...]
    waiting: tuple[tuple[ReadyStep, str], ...]
    refused: tuple[tuple[ReadyStep, str], ...] = ()
    """Steps that would rather fail than wait, and for what they would have to wait."""


LOOKED_AT = 100
"""Once no place is left, so many steps are told what exactly they wait for; it costs time."""
NO_PLACE = "waits for a free place"
AGING = timedelta(minutes=10)
"""Whoever has waited so long counts as one priority more urgent, so that nobody waits for ever."""


def place(
    ready: Sequence[ReadyStep],
    fleet: Sequence[AgentView],
    holds: Mapping[str, int],
    now: datetime | None = None,
) -> Placement:
    """Gives ready steps to the least loaded agents that can: by priority, fairly, by age.

    Fairly: of equal priority, the step whose execution has less under way comes first.

    Args:
        ready: Steps that may start.
        fleet: Every known agent.
        holds: How many holders each lock has.
        now: Whoever has waited long by then comes earlier; left out, age decides among equals only.
    """
    rooms = Rooms(fleet)
    held = dict(holds)
    grants: list[Grant] = []
    waiting: list[tuple[ReadyStep, str]] = []
    refused: list[tuple[ReadyStep, str]] = []
    turns = in_turn(ready, now)
    for number, step in enumerate(turns):
        if number >= LOOKED_AT and not rooms.any():
            waiting += [(item, NO_PLACE) for item in turns[number:]]
            break
        lock = next((key for key, room in step.locks if held.get(key, 0) >= room), None)
        if lock is not None:
            if step.refuses:
                refused.append((step, in_words(lock)))
            else:
                waiting.append((step, f"waits for lock {in_words(lock)}"))
            continue
        agent, why_not = _choose(step.demand, fleet, rooms)
        if agent is None:
            waiting.append((step, why_not))
            continue
        grants.append(Grant(step, agent.agent_id, agent.session_epoch, _why(agent, rooms)))
        rooms.take(agent)
        for key, _ in step.locks:
            held[key] = held.get(key, 0) + 1
    return Placement(tuple(grants), tuple(waiting), tuple(refused))


def in_turn(ready: Iterable[ReadyStep], now: datetime | None = None) -> list[ReadyStep]:
    """Returns steps in the order in which they get what is free."""
    before: Counter[str] = Counter()
    turns = []
    for number, item in enumerate(sorted(ready, key=attrgetter("queued_at", "execution_id"))):
        # The second step of an execution comes where one with one attempt under way would.
        share = item.running + before[item.execution_id]
        before[item.execution_id] += 1
        waited = (now - item.queued_at) // AGING if now else 0
        turns.append((item.priority - max(0, waited), share, number, item))
    turns.sort(key=itemgetter(0, 1, 2))
    return [item for *_, item in turns]


def able(demand: Demand, agent: AgentView) -> bool:
    """Tells whether an agent could run something, were it connected and free."""
    if demand.agent_id:
        return agent.agent_id == demand.agent_id
    return (
        demand.location in agent.services
        and demand.method in agent.methods
        and (demand.connection not in ("ssh", "winrm") or demand.connection in agent.methods)
        and demand.segment in ("", agent.segment)
        and all(agent.labels.get(key) == value for key, value in demand.labels.items())
    )


def missing(demand: Demand, fleet: Sequence[AgentView]) -> str:
    """Returns in words why no known agent could run something; empty when one could."""
    if any(able(demand, agent) for agent in fleet):
        return ""
    wants = [f"offers {demand.location} with method {demand.method}"]
    if demand.connection:
        wants[0] += f" over {demand.connection}"
    if demand.segment:
        wants.append(f"serves segment {demand.segment}")
    if demand.labels:
        wants.append("carries " + ", ".join(f"{k}={v}" for k, v in sorted(demand.labels.items())))
    known = ", ".join(sorted({agent.segment for agent in fleet})) or "none"
    return f"no agent {' and '.join(wants)} (segments with agents: {known})"


def demand_of(body: Mapping[str, object], agent_id: str = "") -> Demand:
    """Returns what a step body asks of an agent."""
    target = body["target"]
    return Demand(
        location=str(body["location"]),
        method=str(body["method"]),
        connection=str(target["connection"]) if isinstance(target, dict) else "",
        segment=str(body["segment"]),
        labels=dict(body["agent_labels"]),  # type: ignore[call-overload]
        agent_id=agent_id,
        tool=str(body["tool"]),
    )


def ready_steps(state: Execution, now: datetime) -> list[ReadyStep]:
    """Returns what of an execution may be granted now."""
    undoing = state.state is ExecutionState.ROLLING_BACK
    if not undoing and (
        state.stopping
        or state.plan_gate_open
        or state.state
        not in (ExecutionState.QUEUED, ExecutionState.RUNNING, ExecutionState.APPROVAL_REQUIRED)
    ):
        return []
    found = []
    for step in state.compiled.rollback if undoing else state.compiled.steps:
        record = state.steps[step.step_id]
        if record.state is StepState.QUEUED and is_due(state, record, now):
            found.append(_ready(state, step, FORWARD, demand_of(step.body)))
    if undoing and state.undo:
        for step_id in state.undo.order:
            record = state.steps[step_id]
            if record.undo_queued and is_due(state, record, now):
                found.append(_undo(state, state.compiled_step(step_id)))
    return found


def due_at(state: Execution, record: StepRecord) -> datetime | None:
    """Returns when the next try of a step is due; None where it need not wait."""
    if record.not_before is None:
        return None
    return record.not_before + state.clock.moved_since(record.delay_clock)


def is_due(state: Execution, record: StepRecord, now: datetime) -> bool:
    """Tells whether a step need not wait any longer before its next try.

    A time before the wait began is of another clock than the one it began by, and tells nothing of
    how long it lasted: better a try too early than one a day late.
    """
    due = due_at(state, record)
    if due is None or due <= now:
        return True
    if record.delayed_at is None:
        return False
    return now < record.delayed_at + state.clock.moved_since(record.delay_clock) - CLOCKS_APART


def _undo(state: Execution, step: CompiledStep) -> ReadyStep:
    undo = step.body["undo"]
    if undo["strategy"] == "call":
        call = {**step.body, **undo["call"]}
        # What the undo takes from the step's output is known to the agent that saw it.
        seen_by = _captured_by(state, step.step_id) if undo["call"].get("late") else ""
        segment = _segment(undo["call"]) or step.body["segment"]
        demand = demand_of({**call, "segment": segment}, seen_by)
    else:
        demand = demand_of(step.body, _captured_by(state, step.step_id))
    return _ready(state, step, UNDO, demand)


def _segment(call: Mapping[str, object]) -> str:
    target = call["target"]
    return str(target["segment"]) if isinstance(target, dict) else ""


def _captured_by(state: Execution, step_id: str) -> str:
    attempt = last_effective(state, step_id)
    return attempt.agent_id if attempt else ""


def last_effective(state: Execution, step_id: str) -> Attempt | None:
    """Returns the last forward attempt that may have had effects: the one an undo takes back."""
    for attempt in reversed(state.attempts_of(step_id, FORWARD)):
        if attempt.state is not AttemptState.NOT_STARTED and attempt.effects != "none":
            return attempt
    return None


def _ready(state: Execution, step: CompiledStep, kind: str, demand: Demand) -> ReadyStep:
    return ReadyStep(
        execution_id=state.execution_id,
        step_id=step.step_id,
        kind=kind,
        number=1 + max((item.number for item in state.attempts_of(step.step_id, kind)), default=0),
        demand=demand,
        priority=state.compiled.priority,
        queued_at=state.steps[step.step_id].queued_at or state.created_at,
        running=sum(1 for _ in state.live_attempts()),
        locks=locks_of(state.tenant, step, kind),
        refuses=kind == FORWARD and fails_on_conflict(step),
        target=step.target_name,
    )


def _choose(
    demand: Demand, fleet: Sequence[AgentView], rooms: Rooms
) -> tuple[AgentView | None, str]:
    able_agents = [agent for agent in fleet if able(demand, agent)]
    if not able_agents:
        return None, missing(demand, fleet)
    if held := able_agents[0].held:
        return None, held
    ready = [agent for agent in able_agents if agent.ready and demand.tool not in agent.kept_tools]
    if not ready:
        kept = [
            f"waits for a person: {agent.name}: {why}"
            for agent in able_agents
            if agent.ready and (why := agent.kept_tools.get(demand.tool))
        ]
        if kept:
            return None, "; ".join(kept)
        names = ", ".join(sorted(agent.name for agent in able_agents))
        return None, f"waits for agent {names} to be connected and taking work"
    best = max(ready, key=lambda agent: (rooms.left(agent), rooms.own(agent), agent.name))
    if rooms.left(best) <= 0:
        return None, f"{NO_PLACE} {rooms.why_full(ready)}"
    return best, ""


def _why(agent: AgentView, rooms: Rooms) -> str:
    return (
        f"{agent.name} serves segment {agent.segment} and has "
        f"{rooms.own(agent)} of {agent.capacity} places free"
    )


def place_preview(demand: Demand, fleet: Sequence[AgentView]) -> tuple[str, str]:
    """Returns the agent that would take something now, and why; no id when no known agent could."""
    if why_not := missing(demand, fleet):
        return "", why_not
    rooms = Rooms(fleet)
    agent, why_not = _choose(demand, fleet, rooms)
    if agent is not None:
        return agent.agent_id, _why(agent, rooms)
    possible = min((item for item in fleet if able(demand, item)), key=lambda item: item.name)
    return possible.agent_id, why_not
