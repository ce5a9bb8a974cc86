"""Whatever agents, people and time do: the promises about starts, order, undo and ends hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.plans import (
    AGAIN,
    FREE,
    UNDO_CALL,
    Story,
    agent,
    compiled,
    error,
    look,
    restart,
    write,
)
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.execution import FORWARD, UNDO
from opsconductor.orchestrator.domain.executions.fold import apply, fold
from opsconductor.orchestrator.domain.executions.states import AttemptState, StepState
from opsconductor.orchestrator.domain.plans.policy import Rule
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution
    from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan

GATE = {"approval": {"expires": "1h"}}
UNDOS: tuple[dict[str, Any], ...] = (
    {},
    {"undo": UNDO_CALL},
    {"undo": {"manual": "by hand"}},
    {"irreversible": True},
)


@st.composite
def steps(draw: st.DrawFn, number: int) -> dict[str, Any]:
    """A step that needs some of those before it."""
    earlier = [f"s{before}" for before in range(number)]
    needs = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=2)) if earlier else []
    fields: dict[str, Any] = {"needs": needs, **draw(st.sampled_from(({}, {}, {}, GATE)))}
    if earlier and draw(st.integers(0, 4)) == 0:
        fields["if"] = "inputs.wanted"
    kind = draw(st.sampled_from(("look", "write", "restart")))
    if kind == "restart":
        retry = {**AGAIN, "on": ["unreachable"]}
        extra = draw(st.sampled_from(UNDOS))
        return restart(f"s{number}", **fields, **extra, retry=retry)
    if draw(st.booleans()):
        fields["retry"] = AGAIN
    return look(f"s{number}", **fields) if kind == "look" else write(f"s{number}", **fields)


@st.composite
def plans(draw: st.DrawFn) -> CompiledPlan:
    """A plan of up to eight steps."""
    count = draw(st.integers(1, 8))
    top: dict[str, Any] = {"mode": "graph", "inputs": {"wanted": draw(st.booleans())}}
    top["on_failure"] = draw(st.sampled_from(("stop", "rollback", "continue", "ask")))
    if draw(st.booleans()):
        top["timeout"] = "20s"
    if draw(st.booleans()):
        top["rollback"] = [{"tool": "run_command", "inputs": {"argv": ["uname"]}}]
    level = draw(st.sampled_from((0, 0, 0, 1, 2, 3)))
    policy = replace(FREE, rules=(Rule("asked", level),))
    return compiled(*[draw(steps(number)) for number in range(count)], policy=policy, **top)


ENDS = ("completed", "completed", "failed", "timed_out", "unreachable", "unknown", "not_started")
CODES = ("START_TTL_EXPIRED", "POLICY_DENIED")


class World:
    """Does to an execution what agents, people and time may do."""

    def __init__(self, story: Story, data: st.DataObject) -> None:
        self.story = story
        self.data = data

    def step(self) -> None:
        what = self.data.draw(
            st.sampled_from(("start", "end", "end", "end", "say", "wait", "fleet", "command"))
        )
        getattr(self, f"_{what}")()

    def _pick(self, choices: list[Any]) -> Any:
        return self.data.draw(st.sampled_from(choices))

    def _attempt(self) -> Attempt | None:
        live = list(self.story.state.live_attempts())
        return self._pick(live) if live else None

    def _start(self) -> None:
        attempt = self._attempt()
        if attempt is not None and attempt.state is AttemptState.GRANTED:
            self.story.happen(ev.AttemptStarted(attempt.attempt_id))

    def _end(self) -> None:
        attempt = self._attempt()
        if attempt is None:
            return
        state = self._pick([*ENDS, *(("cancelled", "cancel_unverified") * self._stopping)])
        if state == "not_started" and attempt.state is AttemptState.RUNNING:
            return
        changes = self.story.state.compiled_step(attempt.step_id).changes
        effects = {"completed": "done", "unknown": "possible", "not_started": "none"}.get(state)
        if not changes:
            effects = "none"
        self.story.happen(
            ev.AttemptFinished(
                attempt.attempt_id,
                state,
                effects or self._pick(["none", "possible"]),
                error=None if state == "completed" else error(self._pick(list(CODES))),
            )
        )

    @property
    def _stopping(self) -> bool:
        return bool(self.story.state.stopping)

    def _say(self) -> None:
        pending = self.story.state.pending_approvals()
        if pending:
            request = self._pick(pending)
            kind = self._pick(["approve", "approve", "approve", "reject"])
            self._ask(
                lambda state: commands.decide(
                    state, request.approval_id, kind, "bob", "seen", self.story.now
                )
            )
        for step_id, record in self.story.state.steps.items():
            if record.state is StepState.UNKNOWN:
                resolution = self._pick(["completed", "failed", "retry"])
                self._ask(
                    lambda state, step_id=step_id, resolution=resolution: commands.resolve_unknown(
                        state, step_id, resolution, "rita", "looked"
                    )
                )
                return

    def _wait(self) -> None:
        self.story.wait(seconds=self._pick([0.5, 2, 8, 4000]))

    def _fleet(self) -> None:
        self.story.fleet = [agent(capacity=self._pick([1, 2, 8]), ready=self._pick([True, False]))]
        self.story.happen()

    def _command(self) -> None:
        self._ask(
            self._pick(
                [
                    lambda state: commands.cancel(state, "rita", ""),
                    lambda state: commands.pause(state, "rita", ""),
                    lambda state: commands.resume(state, "rita"),
                    lambda state: commands.rollback(state, "rita", ""),
                ]
            )
        )

    def _ask(self, decide: Any) -> None:
        try:
            events = decide(self.story.state)
        except OpsConductorError:
            return  # only asking may be refused: what was accepted has to happen
        self.story.happen(*events)

    def calm_down(self) -> None:
        """Agents do what they are told and people answer: everything comes to an end."""
        self.story.fleet = [agent()]
        for _ in range(200):
            state = self.story.happen().state
            if not state.open:
                return
            for request in state.pending_approvals():
                if request.open:
                    self.story.decide("approve", "ann", request.step_id)
                    break
            for step_id, record in self.story.state.steps.items():
                if record.state is StepState.UNKNOWN:
                    self.story.resolve(step_id, "completed")
            if self.story.outcome in ("paused", "attention_required"):
                self._ask(lambda state: commands.resume(state, "rita"))
            for step_id in list(self.story.running):
                self.story.end(step_id)
            self.story.wait(seconds=2)
        raise AssertionError(f"{self.story.outcome} {self.story.states}: it never ends")


def check_grant(before: Execution, event: ev.AttemptGranted) -> None:
    """Checks what has to be true at the moment at which an agent may start."""
    record = before.steps[event.step_id]
    step = before.compiled_step(event.step_id)
    assert before.open
    assert not before.stopping
    assert not any(item.step_id == event.step_id for item in before.live_attempts())
    if event.kind == UNDO:
        assert record.effects != "none"
        assert record.state is StepState.ROLLING_BACK
        return
    assert not before.plan_gate_open
    assert all(before.steps[need].ended for need in step.needs)
    gate = before.compiled.gates.steps.get(event.step_id)
    assert gate is None or any(
        item.step_id == event.step_id and item.state == "approved"
        for item in before.approvals.values()
    )
    if step.changes and not step.body["idempotent"]:
        authorised = {attempt_id for attempt_id, _, _ in before.resolutions}
        for earlier in before.attempts_of(event.step_id, FORWARD):
            assert earlier.effects == "none" or earlier.attempt_id in authorised


def check(story: Story) -> None:
    """Replays the log, and checks every promise where it is due."""
    state = fold(None, story.log[:1])
    undone: list[int] = []
    for item in story.log[1:]:
        name = ev.name_of(item.event)
        data = canonical.loads(canonical.dumps(ev.to_json(item.event)))
        assert ev.from_json(name, data) == item.event
        if isinstance(item.event, ev.AttemptGranted):
            check_grant(state, item.event)
            if item.event.kind == UNDO:
                undone.append(state.steps[item.event.step_id].start_order)
        elif isinstance(item.event, ev.RollbackStarted):
            undone = []
        elif isinstance(item.event, ev.ExecutionFinished):
            check_end(state, item.event)
        state = apply(state, item)
        assert undone == sorted(undone, reverse=True)
    assert state == story.state


def check_end(before: Execution, event: ev.ExecutionFinished) -> None:
    assert not list(before.live_attempts())
    for step in before.compiled.steps:
        assert before.steps[step.step_id].ended or before.steps[step.step_id].state == "unknown"
    if event.state == "completed":
        assert all(before.steps[s.step_id].succeeded for s in before.compiled.steps)
    if event.state == "cancelled":
        assert not any(
            record.state in (StepState.UNKNOWN, StepState.CANCEL_UNVERIFIED)
            for record in before.steps.values()
        )


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(plans(), st.integers(0, 40), st.data())
def test_the_promises_hold_in_any_world(
    plan: CompiledPlan, moves: int, data: st.DataObject
) -> None:
    world = World(Story(plan), data)
    for _ in range(moves):
        world.step()
    check(world.story)
    world.calm_down()
    check(world.story)
