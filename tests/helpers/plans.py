"""Executions of real plans, played by hand: tools, policy and rules are those of the product."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.advance import settle
from opsconductor.orchestrator.domain.executions.changing import replace
from opsconductor.orchestrator.domain.executions.clock import Clock
from opsconductor.orchestrator.domain.executions.fold import fold
from opsconductor.orchestrator.domain.executions.place import AgentView, place, ready_steps
from opsconductor.orchestrator.domain.plans.check import check_plan
from opsconductor.orchestrator.domain.plans.compile import compile_plan
from opsconductor.orchestrator.domain.plans.policy import Policy, Rule
from opsconductor.rpc import ids
from opsconductor.tool_registry.registry import Registry

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.executions.execution import Approval, Attempt, Execution
    from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FREE = Policy(
    name="free",
    version="7",
    rules=(Rule("anything", 0),),
    requester_may_approve=frozenset({1, 2, 3}),
    operator_stands_for_groups=True,
    expires=timedelta(hours=4),
)
"""Changes run without approval, so that a story is about something else."""
ASSETS: dict[str, dict[str, Any]] = {
    name: {
        "name": name,
        "type": "linux_server",
        "address": address,
        "connection": "ssh",
        "service_manager": "systemd",
        "environment": "staging",
    }
    for name, address in (("web-01", "10.0.0.5"), ("web-02", "10.0.0.6"))
}


@cache
def registry() -> Registry:
    """Returns the shipped tools."""
    return Registry.load()


def look(id: str, **fields: Any) -> dict[str, Any]:
    """Returns a step that only reads."""
    return {"id": id, "tool": "run_command", "inputs": {"argv": ["uname", "-r"]}, **fields}


def write(id: str, **fields: Any) -> dict[str, Any]:
    """Returns a change that is idempotent and is undone from what it captured."""
    inputs = {"path": f"/srv/{id}", "content": "x"}
    return {"id": id, "tool": "write_file", "inputs": inputs, **fields}


def restart(id: str, **fields: Any) -> dict[str, Any]:
    """Returns a change that is not idempotent and needs no undo."""
    inputs = {"service": "nginx"}
    return {"id": id, "tool": "restart_service", "inputs": inputs, "target": "web-01", **fields}


UNDO_CALL = {"tool": "restart_service", "inputs": {"service": "nginx"}}
AGAIN = {"max_attempts": 3, "backoff": "fixed", "delay": "2s", "jitter": False}


def compiled(
    *steps: dict[str, Any], policy: Policy = FREE, revision: int = 1, **top: Any
) -> CompiledPlan:
    """Returns a plan, checked and compiled."""
    checked = check_plan({"steps": list(steps), **top}, None, registry(), ASSETS)
    assert checked.plan is not None, checked.faults
    return compile_plan(checked.plan, registry(), ASSETS, policy, "default", revision)


def agent(name: str = "a1", **changes: Any) -> AgentView:
    """Returns an agent that can do everything."""
    values: dict[str, Any] = {
        "agent_id": name,
        "name": name,
        "segment": "local",
        "services": frozenset({"automation-service"}),
        "methods": frozenset({"command", "ssh"}),
        "labels": {},
        "capacity": 32,
        "running": 0,
        "session_epoch": 1,
        "ready": True,
        **changes,
    }
    return AgentView(**values)


def error(code: str = "EXIT_CODE", error_class: str = "retryable") -> dict[str, str]:
    return {"code": code, "message": f"it ended with {code}", "error_class": error_class}


@dataclass
class Story:
    """One execution, moved by hand, with a clock of its own."""

    plan: CompiledPlan
    execution_id: str = "exec_1"
    requester: str = "rita"
    submitted_by: str = "rita"
    now: datetime = NOON
    fleet: list[AgentView] = field(default_factory=lambda: [agent()])
    log: list[ev.Recorded] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    state: Execution = field(init=False)

    def __post_init__(self) -> None:
        submitted = ev.Submitted(
            execution_id=self.execution_id,
            tenant="default",
            external_id="",
            plan_document={},
            compiled=self.plan.to_json(),
            requester=self.requester,
            submitted_by=self.submitted_by,
            trace_id="0" * 32,
            span_id="0" * 16,
        )
        self.log.append(ev.Recorded(1, self.now, submitted))
        self.state = replace(fold(None, self.log), clock=self.clock)
        self.happen()

    def happen(self, *events: ev.Event) -> Story:
        """Applies events and what follows; then grants all that can start."""
        self.state, more = settle(self.state, self.now, events)
        self.log += more
        ready = ready_steps(self.state, self.now)
        running = {
            view.agent_id: sum(a.agent_id == view.agent_id for a in self.state.live_attempts())
            for view in self.fleet
        }
        for grant in place(ready, self.fleet, {}).grants:
            step = grant.step
            granted = ev.AttemptGranted(
                attempt_id=ids.attempt_id(step.execution_id, step.step_id, step.kind, step.number),
                step_id=step.step_id,
                kind=step.kind,
                number=step.number,
                agent_id=grant.agent_id,
                session_epoch=grant.session_epoch,
                routing_reason=grant.reason,
                start_order=1 + max(item.start_order for item in self.state.steps.values()),
                clock=self.state.clock.mark,
            )
            running[grant.agent_id] += 1
            self.state, more = settle(self.state, self.now, (granted,))
            self.log += more
        return self

    def wait(self, **time: float) -> Story:
        """Lets time pass."""
        self.now += timedelta(**time)
        return self.happen()

    def set_clock(self, **by: float) -> Story:
        """Sets the clock, by which no time passes."""
        step = timedelta(**by)
        self.clock = Clock(self.clock.name, (*self.clock.steps, step))
        self.state = replace(self.state, clock=self.clock)
        self.now += step
        return self.happen()

    def live(self, step_id: str) -> Attempt:
        """Returns the attempt of a step that an agent has."""
        (attempt,) = [item for item in self.state.live_attempts() if item.step_id == step_id]
        return attempt

    def start(self, *step_ids: str, captured: Any = None) -> Story:
        """Reports that agents began."""
        for step_id in step_ids:
            started = ev.AttemptStarted(self.live(step_id).attempt_id, captured=captured)
            self.happen(started)
        return self

    def end(self, step_id: str, state: str = "completed", **fields: Any) -> Story:
        """Reports the end of a step's attempt; a completed change has effects."""
        attempt = self.live(step_id)
        changes = self.state.compiled_step(step_id).changes
        done = "done" if changes else "none"
        effects = fields.pop("effects", done if state == "completed" else "none")
        if state not in ("completed", "not_started") and "error" not in fields:
            fields["error"] = error()
        return self.happen(ev.AttemptFinished(attempt.attempt_id, state, effects, **fields))

    def complete(self, *step_ids: str) -> Story:
        for step_id in step_ids:
            self.end(step_id)
        return self

    def decide(self, kind: str, person: str, step_id: str = "", reason: str = "seen") -> Story:
        request = self.asked(step_id)
        return self.happen(
            *commands.decide(self.state, request.approval_id, kind, person, reason, self.now)
        )

    def cancel(self) -> Story:
        return self.happen(*commands.cancel(self.state, "rita", "enough"))

    def rollback(self) -> Story:
        return self.happen(*commands.rollback(self.state, "rita", "not wanted"))

    def resolve(self, step_id: str, resolution: str) -> Story:
        return self.happen(
            *commands.resolve_unknown(self.state, step_id, resolution, "rita", "looked")
        )

    def asked(self, step_id: str = "") -> Approval:
        """Returns the newest request about the plan or a step."""
        return [item for item in self.state.approvals.values() if item.step_id == step_id][-1]

    def step(self, step_id: str) -> str:
        return str(self.state.steps[step_id].state)

    @property
    def running(self) -> list[str]:
        """The steps whose attempts agents have, oldest first."""
        return [attempt.step_id for attempt in self.state.live_attempts()]

    @property
    def states(self) -> dict[str, str]:
        return {step.step_id: self.step(step.step_id) for step in self.plan.steps}

    @property
    def outcome(self) -> str:
        return str(self.state.state)

    def granted(self, kind: str = "forward") -> list[str]:
        """Returns the steps in the order in which their attempts were granted."""
        return [
            item.event.step_id
            for item in self.log
            if isinstance(item.event, ev.AttemptGranted) and item.event.kind == kind
        ]
