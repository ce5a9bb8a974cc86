"""The invariants every transaction of the database has to keep; the log is folded here anew."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from itertools import combinations
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.execution import FORWARD, UNDO
from opsconductor.orchestrator.domain.executions.fold import apply
from opsconductor.orchestrator.domain.executions.states import ExecutionState, StepState
from opsconductor.orchestrator.engine import log
from opsconductor.orchestrator.store.base import AppendEvents, OpenSession, SetMeta
from opsconductor.orchestrator.store.sharing import JoinReplicas
from opsconductor.rpc.errors import OpsConductorError
from simulation.durations import Durations
from simulation.evidence import Granted, Known, Memory, Violation, told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution
    from opsconductor.orchestrator.store.base import Call, Outcome
    from simulation.truth import Effect, Ledger

NO_GRANTS = (
    ExecutionState.PENDING,
    ExecutionState.PAUSED,
    ExecutionState.ATTENTION_REQUIRED,
    ExecutionState.CANCELLING,
)
TRACE_KEPT = 4000


class LogChecks:
    """Watches the database; the first violation ends the run."""

    def __init__(self, ledger: Ledger, now: Callable[[], float]) -> None:
        self.known = Known()
        self.granted: dict[str, Granted] = {}
        self.memories: defaultdict[str, Memory] = defaultdict(Memory)
        self.lives: dict[str, int] = {}
        self.power_lost: defaultdict[str, int] = defaultdict(int)
        self.journals_lost: set[str] = set()
        self.approvals: defaultdict[str, list[ev.DecisionRecorded]] = defaultdict(list)
        """By execution; what was signed stays so, also when the store goes back to before."""
        self.retired: set[str] = set()
        """Agents on which an operator has given up."""
        self.incarnation = "first"
        self.went_back = 0
        self.events = 0
        self.violation: Violation | None = None
        self.hash = hashlib.sha256()
        self.trace: deque[tuple[float, str]] = deque(maxlen=TRACE_KEPT)
        self.counts: defaultdict[str, int] = defaultdict(int)
        self._ledger = ledger
        self._now = now
        self._by = 0
        self._grants_anew = False
        self.tenants: Mapping[str, str] = {}
        self.ended_with: dict[str, ev.AttemptFinished] = {}
        """What was last reported of each attempt's end."""
        self.replaying = False
        self._replicas: dict[int, str] = {}
        self.owner_of: Callable[[str], str] = lambda _: ""
        self._opened_by: dict[tuple[int, str], int] = {}
        self._durations = Durations()
        self._granted_in: dict[tuple[int, str], int] = {}

    # Bookkeeping

    def note(self, text: str) -> None:
        """Adds an event to the trace and its hash."""
        self.events += 1
        now = self._now()
        self.trace.append((now, text))
        self.hash.update(f"{now:.9f} {text}\n".encode())

    def fail(self, invariant: str, message: str) -> None:
        """Keeps the first violation."""
        self.note(f"VIOLATION {invariant}: {message}")
        if self.violation is None:
            self.violation = Violation(invariant, message)

    def require(self, invariant: str, holds: bool, message: str) -> None:
        """Fails unless something holds."""
        if not holds:
            self.fail(invariant, message)

    # The database

    def committed(self, calls: Sequence[Call], outcomes: Sequence[Outcome], by: int = 0) -> None:
        """Takes a transaction of one orchestrator's process."""
        self._by = by
        for call, outcome in zip(calls, outcomes, strict=True):
            if not isinstance(outcome, list):
                continue
            for op, result in zip(call, outcome, strict=True):
                if isinstance(op, AppendEvents):
                    self._appended(op)
                elif isinstance(op, OpenSession):
                    self._opened(op.agent_id, result.session_epoch)
                elif isinstance(op, SetMeta) and op.key == "incarnation":
                    self.incarnation = op.value
                elif isinstance(op, JoinReplicas):
                    self._replicas[by] = op.replica_id

    def _opened(self, agent: str, epoch: int) -> None:
        self.note(f"epoch {epoch} for {agent}")
        before = self.known.epochs.get(agent, 0)
        self.require("I9", epoch > before, f"epoch {epoch} of {agent} after {before}")
        self.known.epochs[agent] = epoch
        self._opened_by[(self._by, agent)] = epoch

    def _appended(self, op: AppendEvents) -> None:
        known = self.known
        recorded = log.read(op.events)
        stored, head = log.chain(known.heads.get(op.execution_id, ""), op.execution_id, recorded)
        same = [item.hash for item in stored] == [item.hash for item in op.events]
        self.require("I10", same, f"the chain of {op.execution_id} is broken")
        known.heads[op.execution_id] = head
        for item in recorded:
            before = known.executions.get(op.execution_id)
            self.note(f"{op.execution_id[-6:]} {item.seq} {told(item.event)}")
            if before is not None:
                self._before(before, item.event)
            try:
                known.executions[op.execution_id] = apply(before, item)
            except (OpsConductorError, ValueError, KeyError) as exc:
                self.fail("I10", f"event {item.seq} of {op.execution_id}: {exc}")
                return
            if isinstance(item.event, ev.Submitted):
                self._submitted(item.event)
        if self._grants_anew:
            self._grants_anew = False
            self._check_owner(known.executions[op.execution_id])

    def _submitted(self, event: ev.Submitted) -> None:
        self.counts["plans"] += 1
        if event.request_id:
            key = event.tenant, event.request_id
            other = self.known.requests.setdefault(key, event.execution_id)
            same = other == event.execution_id
            self.require("I22", same, f"request {event.request_id} made two executions")

    def _before(self, state: Execution, event: ev.Event) -> None:
        if not self.went_back:
            wrong = self._durations.wrong(state, event, self._now(), self._by)
            self.require("F17", not wrong, f"{state.execution_id}: {wrong}")
        match event:
            case ev.DecisionRecorded(kind="approve"):
                self.approvals[state.execution_id].append(event)
            case ev.AttemptGranted():
                self._check_grant(state, event)
            case ev.AttemptFinished():
                self._check_end(state, event)
            case ev.RollbackStarted():
                self._check_undo_order(state, event)
            case ev.ExecutionFinished():
                self._check_finish(state, event)

    def _check_grant(self, state: Execution, event: ev.AttemptGranted) -> None:
        self.counts["attempts"] += 1
        own = self.tenants[event.agent_id] == state.tenant
        self.require("I19", own, f"a step of {state.tenant} is granted to {event.agent_id}")
        step = state.compiled_step(event.step_id)
        target = (step.body["target"] or {}).get("name", "")
        known = self.granted.get(event.attempt_id)
        recovered = event.attempt_id in state.recovered  # it was granted before a restore
        self.granted[event.attempt_id] = Granted(
            state.execution_id,
            event.step_id,
            event.kind,
            event.agent_id,
            known.life if known and recovered else self.lives.get(event.agent_id, 0),
            step.changes,
            step.body["idempotent"],
            target,
            state.undo_count,
            known.at if known else self._now(),
        )
        memory, here = self.memories[event.agent_id], self.known.epochs.get(event.agent_id, 0)
        ahead = memory.incarnation == self.incarnation and memory.epoch > here
        behind = ahead and not recovered
        self.require("I14", not behind, f"a grant to {event.agent_id}, which is ahead of the store")
        # Each orchestrator has a session of its own with an agent; it never goes back to an older.
        key = self._by, event.agent_id
        used, opened = self._granted_in.get(key, 0), self._opened_by.get(key, 0)
        said = f"a grant in session {event.session_epoch} after {used}, with {opened} open"
        if not recovered:
            self.require("I9", used <= event.session_epoch <= opened, said)
            self._granted_in[key] = event.session_epoch
            self._grants_anew = True
        alone = not any(item.step_id == event.step_id for item in state.live_attempts())
        self.require("I3", alone, f"{event.step_id} is granted while an attempt of it is live")
        # What was granted before a restore is told whatever was decided since: it may run.
        going = recovered or (state.state not in NO_GRANTS and state.open)
        self.require("I13", going, f"a grant while the execution is {state.state}")
        if event.kind == UNDO:
            self._check_undo_grant(state, event)
        else:
            self._check_forward_grant(state, event)

    def _check_owner(self, state: Execution) -> None:
        """Only the orchestrator that moves an execution may grant, when there are several."""
        mine, execution_id = self._replicas.get(self._by), state.execution_id
        if mine is not None and state.open:
            owner = self.owner_of(execution_id)
            self.require("I9", owner == mine, f"{mine} grants for {execution_id}, {owner} moves it")

    def _check_undo_grant(self, state: Execution, event: ev.AttemptGranted) -> None:
        record = state.steps[event.step_id]
        affected = record.effects != "none"
        self.require("I18", affected, f"{event.step_id} is undone and had no effects")
        undo = state.undo
        before = [] if undo is None else list(undo.order[: undo.order.index(event.step_id)])
        over = all(
            state.steps[step_id].state in (StepState.ROLLED_BACK, StepState.ROLLBACK_FAILED)
            for step_id in before
        )
        self.require("I18", over, f"{event.step_id} is undone before {before} are")

    def _check_forward_grant(self, state: Execution, event: ev.AttemptGranted) -> None:
        # What an agent's journal tells after a restore was granted before it; nobody grants it now.
        if event.attempt_id not in state.recovered:
            self._check_time_to_grant(state, event.step_id)
        step = state.compiled_step(event.step_id)
        if not step.changes:
            return
        decided = {attempt_id for attempt_id, _, _ in state.resolutions}
        for earlier in state.attempts_of(event.step_id, FORWARD):
            if earlier.attempt_id in decided:
                continue
            known = earlier.state != "unknown"
            self.require("I7", known, f"{event.step_id} runs again, {earlier.attempt_id} unknown")
            safe = earlier.effects == "none" or step.body["idempotent"]
            self.require("I2", safe, f"{event.step_id} is not idempotent and is granted again")

    def _check_time_to_grant(self, state: Execution, step_id: str) -> None:
        if state.state is not ExecutionState.ROLLING_BACK:
            self.require("I13", not state.stopping, f"a grant while stopping: {state.stopping}")
            met = all(state.steps[need].succeeded for need in state.compiled_step(step_id).needs)
            self.require("I12", met, f"{step_id} is granted before its needs are met")
            self.require("I12", not state.plan_gate_open, "a grant before the plan's approval")
        gate = state.compiled.gates.steps.get(step_id)
        passed = gate is None or any(
            item.step_id == step_id and item.state == "approved"
            for item in state.approvals.values()
        )
        self.require("I12", passed, f"{step_id} is granted without its own approval")

    def _check_end(self, state: Execution, event: ev.AttemptFinished) -> None:
        attempt = state.attempts.get(event.attempt_id)
        if attempt is None:
            self.fail("I10", f"{event.attempt_id} ends and was never granted")
            return
        self.ended_with[event.attempt_id] = event
        changes = state.compiled_step(attempt.step_id).changes
        starts = self._ledger.of(event.attempt_id)
        self.counts[event.state] += 1
        if event.state == "completed":
            self._check_success(event.attempt_id, starts, changes=changes)
        clean = event.state == "not_started" or (changes and event.effects == "none")
        said = f"{event.attempt_id} ends {event.state}, effects {event.effects}, and"
        told = starts if changes else [each for each in starts if self._tells(attempt, each)]
        self.require("I6", not (clean and told), f"{said} has started")
        if event.state == "unknown" and changes:
            self.counts["unknown changes"] += 1
            code = (event.error or {}).get("code")
            excused = (
                any(effect.lost for effect in starts)
                or attempt.agent_id in self.journals_lost
                or (attempt.agent_id in self.retired and code == "AGENT_RETIRED")
                or self.lives.get(attempt.agent_id, 0) > self.granted[event.attempt_id].life
            )
            self.require("I7", excused, f"{said} nothing happened to its agent")

    def _tells(self, attempt: Attempt, start: Effect) -> bool:
        """Whether the agent that ends a read knows of a start: a restore lets it be done again."""
        forgotten = start.agent != attempt.agent_id or start.agent in self.journals_lost
        return not (self.went_back and forgotten)

    def _check_success(self, attempt_id: str, starts: list[Effect], *, changes: bool) -> None:
        ended = [effect for effect in starts if effect.success]
        once = len(starts) == 1 or (starts and not changes)
        said = f"{attempt_id} is completed with {len(starts)} starts, {len(ended)} good ends"
        self.require("I5", bool(once and ended), said)

    def _check_undo_order(self, state: Execution, event: ev.RollbackStarted) -> None:
        place = {step_id: index for index, step_id in enumerate(event.order)}
        for step_id in event.order:
            step, record = state.compiled_step(step_id), state.steps[step_id]
            affected = record.effects != "none" and step.changes
            self.require("I18", affected, f"{step_id} is to be undone and had no effects")
            for need in step.needs:
                if need in place:
                    later = place[need] > place[step_id]
                    self.require("I18", later, f"{need} is undone before {step_id}, which needs it")
        recovered = {item.step_id for item in state.recovered.values()}
        times = {step_id: self._granted_and_over(state, step_id) for step_id in event.order}
        for step_id, earlier in combinations(event.order, 2):
            mine, theirs = times[step_id], times[earlier]
            # Undo goes by the order of grants. A restored store has lost that of what comes from
            # journals, and nothing else tells it: each agent's times are those of its own clock.
            lost = bool({step_id, earlier} & recovered)
            wrong = mine and theirs and mine[1] < theirs[0] and not lost
            said = f"the undo {event.order} takes {step_id} before {earlier}, begun after it"
            self.require("I18", not wrong, said)

    def _granted_and_over(self, state: Execution, step_id: str) -> tuple[float, float] | None:
        """Returns when a step's first start was granted and its effects ended; None without any.

        An attempt that is unknown may have been that start, as far as anybody can know.
        """
        attempts = state.attempts_of(step_id, FORWARD)
        effects = [effect for each in attempts for effect in self._ledger.of(each.attempt_id)]
        if not effects:
            return None
        now = self._now()
        first = next(
            self.granted[each.attempt_id].at
            for each in attempts
            if each.effects != "none" or self._ledger.of(each.attempt_id)
        )
        return first, max(now if effect.end is None else effect.end for effect in effects)

    def _check_finish(self, state: Execution, event: ev.ExecutionFinished) -> None:
        self.counts[f"ended {event.state}"] += 1
        live = [attempt.attempt_id for attempt in state.live_attempts()]
        self.require("I10", not live, f"{state.execution_id} ends {event.state} with {live} live")
        if event.state == "completed":
            whole = all(state.steps[step.step_id].succeeded for step in state.compiled.steps)
            self.require("I5", whole, f"{state.execution_id} is completed and not every step is")
        if event.state == "cancelled":
            loud = [effect.attempt_id for effect in self._running(state) if effect.changes]
            self.require("I13", not loud, f"{state.execution_id} is cancelled while {loud} run")

    def _running(self, state: Execution) -> list[Effect]:
        return [
            effect
            for attempt_id in state.attempts
            for effect in self._ledger.of(attempt_id)
            if effect.end is None
        ]
