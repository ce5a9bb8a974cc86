"""``place``: which agent takes which ready step. Spans executions; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.execution import FORWARD, UNDO, Attempt, Execution
from opsconductor.orchestrator.domain.states import AttemptState, ExecutionState, StepState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.domain.compiled import CompiledStep


@dataclass(frozen=True)
class Demand:
    """What an agent must offer to run something."""

    location: str
    method: str
    connection: str = ""
    segment: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    agent_id: str = ""
    """Only this agent will do (an undo that restores what it captured); empty for any."""


@dataclass(frozen=True)
class ReadyStep:
    """A step, or the undo of one, that may start."""

    execution_id: str
    step_id: str
    kind: str
    number: int
    demand: Demand
    priority: int
    queued_at: datetime
    locks: tuple[tuple[str, int], ...] = ()
    """(key, holders allowed) it must hold while it runs."""


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


def place(
    ready: Sequence[ReadyStep], fleet: Sequence[AgentView], holds: Mapping[str, int]
) -> Placement:
    """Gives ready steps to agents: by priority, then by age; to the least loaded agent that can.

    Args:
        ready: Steps that may start.
        fleet: Every known agent.
        holds: How many holders each lock has.
    """
    free = {agent.agent_id: agent.capacity - agent.running for agent in fleet}
    held = dict(holds)
    grants: list[Grant] = []
    waiting: list[tuple[ReadyStep, str]] = []
    for step in sorted(ready, key=lambda item: (item.priority, item.queued_at, item.execution_id)):
        lock = next((key for key, room in step.locks if held.get(key, 0) >= room), None)
        if lock is not None:
            waiting.append((step, f"waits for lock {lock}"))
            continue
        agent, why_not = _choose(step.demand, fleet, free)
        if agent is None:
            waiting.append((step, why_not))
            continue
        grants.append(Grant(step, agent.agent_id, agent.session_epoch, _why(agent, free)))
        free[agent.agent_id] -= 1
        for key, _ in step.locks:
            held[key] = held.get(key, 0) + 1
    return Placement(tuple(grants), tuple(waiting))


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
        if record.state is StepState.QUEUED and _due(record.not_before, now):
            found.append(_forward(state, step))
    if undoing and state.undo:
        for step_id in state.undo.order:
            record = state.steps[step_id]
            if record.undo_queued and _due(record.not_before, now):
                found.append(_undo(state, state.compiled_step(step_id)))
    return found


def locks_of(step: CompiledStep) -> tuple[tuple[str, int], ...]:
    """Returns the locks a running step holds: its own key, and its target when it changes it."""
    locks: list[tuple[str, int]] = []
    if own := step.body["concurrency"]:
        locks.append((f"key:{own['key']}", own["max_runs"]))
    target = step.body["target"]
    if step.changes and target:
        locks.append((f"target:{target['name']}", 1))
    return tuple(locks)


def _due(not_before: datetime | None, now: datetime) -> bool:
    return not_before is None or not_before <= now


def _forward(state: Execution, step: CompiledStep) -> ReadyStep:
    return _ready(state, step, FORWARD, demand_of(step.body))


def _undo(state: Execution, step: CompiledStep) -> ReadyStep:
    undo = step.body["undo"]
    if undo["strategy"] == "call":
        call = {**step.body, **undo["call"]}
        demand = demand_of({**call, "segment": _segment(undo["call"]) or step.body["segment"]})
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
    record = state.steps[step.step_id]
    return ReadyStep(
        execution_id=state.execution_id,
        step_id=step.step_id,
        kind=kind,
        number=len(state.attempts_of(step.step_id, kind)) + 1,
        demand=demand,
        priority=state.compiled.priority,
        queued_at=record.queued_at or state.created_at,
        locks=locks_of(step),
    )


def _choose(
    demand: Demand, fleet: Sequence[AgentView], free: Mapping[str, int]
) -> tuple[AgentView | None, str]:
    able_agents = [agent for agent in fleet if able(demand, agent)]
    if not able_agents:
        return None, missing(demand, fleet)
    ready = [agent for agent in able_agents if agent.ready]
    if not ready:
        names = ", ".join(sorted(agent.name for agent in able_agents))
        return None, f"waits for agent {names} to be connected and taking work"
    best = max(ready, key=lambda agent: (free[agent.agent_id], agent.name))
    if free[best.agent_id] <= 0:
        return None, f"waits for a free place on {', '.join(sorted(a.name for a in ready))}"
    return best, ""


def _why(agent: AgentView, free: Mapping[str, int]) -> str:
    return (
        f"{agent.name} serves segment {agent.segment} and has "
        f"{free[agent.agent_id]} of {agent.capacity} places free"
    )


def place_preview(demand: Demand, fleet: Sequence[AgentView]) -> tuple[str, str]:
    """Returns the agent that would take something now, and why; no id when no known agent could."""
    if why_not := missing(demand, fleet):
        return "", why_not
    free = {agent.agent_id: agent.capacity - agent.running for agent in fleet}
    agent, why_not = _choose(demand, fleet, free)
    if agent is not None:
        return agent.agent_id, _why(agent, free)
    possible = min((item for item in fleet if able(demand, item)), key=lambda item: item.name)
    return possible.agent_id, why_not
