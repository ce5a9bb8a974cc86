"""The invariants of delivery.md, checked at every event against what really happened.

The checker sees every transaction the database took, every start and end in the ledger, every frame
and every journal record; it folds the log itself and believes nobody.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions.execution import FORWARD, UNDO
from simulation.evidence import Granted, Known, Ordered, Spoken
from simulation.log_checks import LogChecks
from simulation.people import is_signed

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution
    from simulation.truth import Effect, Ledger

ACCEPTING = 0.1
"""Seconds an agent may take to keep the number of a new session."""


class Checker(LogChecks):
    """Watches everything; the first violation ends the run."""

    def __init__(self, ledger: Ledger, now: Callable[[], float]) -> None:
        super().__init__(ledger, now)
        self._orders: dict[tuple[str, str], Ordered] = {}
        self._sessions: dict[tuple[str, str], Spoken] = {}
        self._former: dict[tuple[str, str], tuple[Spoken, float]] = {}
        """Sessions that were followed by another, each with when."""
        self.quorum = 0
        """Signatures without which no change may start."""
        self._signatures: dict[tuple[str, str], bool] = {}
        self.frozen_until: defaultdict[str, float] = defaultdict(float)
        ledger.on_start = self.started
        ledger.on_end = self.ended

    # The ledger

    def started(self, effect: Effect) -> None:
        """Takes a start."""
        self.note(f"start {effect.attempt_id[-8:]} on {effect.life}")
        self.counts["starts"] += 1
        self.require("I21", not self.replaying, f"{effect.attempt_id} starts by a frame sent again")
        grant = self.granted.get(effect.attempt_id)
        if grant is None or grant.agent != effect.agent:
            self.fail("I4", f"{effect.attempt_id} starts on {effect.agent}, granted: {grant}")
            return
        starts = self._ledger.of(effect.attempt_id)
        once = len(starts) <= self._allowed(effect, starts)
        self.require("I2", once, f"{effect.attempt_id} starts {len(starts)} times")
        state = self.known.executions.get(grant.execution_id)
        if state is None:
            return
        attempt = state.attempts.get(effect.attempt_id)
        if attempt is not None:
            self._check_start(state, attempt, effect)
        if effect.changes:
            self._check_authorised(state, grant)
        self._check_overlap(grant, effect)
        if grant.kind == FORWARD and effect.changes and not grant.idempotent:
            self._check_count(state, grant)
        if grant.kind == UNDO:
            self._check_undo_start(state, grant, effect)

    def _allowed(self, effect: Effect, starts: list[Effect]) -> int:
        """Returns how often an attempt may start: a read whenever all that knew of it is lost."""
        if effect.changes:
            return 1
        if self.went_back and any(item.agent in self.journals_lost for item in starts):
            return len(starts)
        return 1 + self.power_lost[effect.agent]

    def _check_start(self, state: Execution, attempt: Attempt, effect: Effect) -> None:
        said = f"{effect.attempt_id} starts after it ended {attempt.state}"
        clean = attempt.state == "not_started" or attempt.state == "cancelled"
        self.require("I6", not clean, said)
        if effect.changes or self.frozen_until[effect.agent] < self._now() - 0.5:
            self.require("I13", attempt.live, said)
        self.require("I13", state.state != "cancelled", f"{said}; the execution is cancelled")

    def _check_authorised(self, state: Execution, grant: Granted) -> None:
        """Somebody has signed this very step of this very plan (I11)."""
        if not self.quorum:
            return
        signed = {
            decision.person
            for decision in self.approvals[state.execution_id]
            if self._signed(state, grant.step_id, decision.statement, decision.signature)
        }
        said = f"{grant.step_id} of {grant.execution_id} starts, signed by {sorted(signed)}"
        self.require("I11", len(signed) >= self.quorum, said)

    def _signed(self, state: Execution, step_id: str, statement: str, signature: str) -> bool:
        said = json.loads(statement)
        covers = said["steps"] == ["*"] or step_id in said["steps"]
        about = (said["decision"], said["execution_id"], said["plan_digest"], said["tenant"])
        wanted = ("approve", state.execution_id, state.compiled.plan_digest, state.tenant)
        if not covers or about != wanted:
            return False
        key = statement, signature
        if key not in self._signatures:
            self._signatures[key] = is_signed(statement.encode(), signature, said["approver"])
        return self._signatures[key]

    def _check_overlap(self, grant: Granted, effect: Effect) -> None:
        if not effect.changes:
            return
        for other in self._ledger.effects[-400:]:
            if other is effect or other.end is not None or other.lost or not other.changes:
                continue
            theirs = self.granted[other.attempt_id]
            same_step = (theirs.execution_id, theirs.step_id) == (grant.execution_id, grant.step_id)
            self.require("I3", not same_step, f"{effect.attempt_id} starts beside {other}")
            same_target = bool(grant.target) and grant.target == theirs.target
            same_target = same_target and self.tenants[grant.agent] == self.tenants[theirs.agent]
            self.require("I3", not same_target, f"{effect.attempt_id} shares its target: {other}")

    def _check_count(self, state: Execution, grant: Granted) -> None:
        mine = (grant.execution_id, grant.step_id, FORWARD)
        ids = {
            attempt_id
            for attempt_id, other in self.granted.items()
            if (other.execution_id, other.step_id, other.kind) == mine
        }
        starts = sum(len(self._ledger.of(attempt_id)) for attempt_id in ids)
        decided = sum(1 for attempt_id, _, _ in state.resolutions if attempt_id in ids)
        said = f"{grant.step_id} of {grant.execution_id} starts {starts} times"
        self.require("I2", starts <= 1 + decided, f"{said}, authorised {1 + decided}")

    def _check_undo_start(self, state: Execution, grant: Granted, effect: Effect) -> None:
        forward = [
            start
            for attempt in state.attempts_of(grant.step_id, FORWARD)
            for start in self._ledger.of(attempt.attempt_id)
        ]
        record = state.steps[grant.step_id]
        had = bool(forward) or bool(record.resolved_by) or record.effects != "none"
        self.require("I18", had, f"{grant.step_id} is undone and never started")
        running = [start for start in forward if start.end is None and not start.lost]
        self.require("I3", not running, f"{grant.step_id} is undone while it runs")
        # Who asks for the undo again allows one more try of what was not known to be undone.
        done = [
            start
            for attempt in state.attempts_of(grant.step_id, UNDO)
            if attempt.state == "completed" or self._same_undo(attempt.attempt_id, grant)
            for start in self._ledger.of(attempt.attempt_id)
            if start.success and start is not effect and not start.lost
        ]
        self.require("I18", not done, f"{grant.step_id} is undone twice")

    def _same_undo(self, attempt_id: str, grant: Granted) -> bool:
        other = self.granted.get(attempt_id)
        return other is None or other.undo == grant.undo

    def ended(self, effect: Effect) -> None:
        """Takes an end."""
        self.note(f"end {effect.attempt_id[-8:]} success={effect.success}")

    # Frames and journals

    def require_tenant(self, agent: str, attempt_id: str) -> None:
        """Takes that an agent is told of an attempt."""
        grant = self.granted.get(attempt_id)
        state = self.known.executions.get(grant.execution_id) if grant else None
        own = state is None or state.tenant == self.tenants[agent]
        self.require("I19", own, f"{agent} is told of {attempt_id}, which is not its tenant's")

    def acknowledged(self, attempt_id: str) -> None:
        """Takes an acknowledgement as it leaves the orchestrator."""
        grant = self.granted.get(attempt_id)
        state = self.known.executions.get(grant.execution_id) if grant else None
        attempt = state.attempts.get(attempt_id) if state else None
        # After a restore what no execution is known for is kept for people and let go.
        lost = attempt is None and self.went_back > 0
        durable = lost or (attempt is not None and not attempt.live)
        self.require("I22", durable, f"the end of {attempt_id} is acknowledged and not stored")

    def replied(self, execution_id: str, age: int) -> None:
        """Takes the answer to a submission."""
        if age == self.went_back:
            known = execution_id in self.known.executions
            self.require("I22", known, f"{execution_id} was answered and is not stored")

    def journalled(self, agent: str, record: dict[str, Any]) -> None:
        """Takes a record of an agent's journal."""
        memory = self.memories[agent]
        match record["t"]:
            case "incarnation":
                memory.incarnation, memory.epoch = record["value"], 0
            case "entry" if record["report"]["state"] == "running":
                self._check_begin(agent, record["report"]["attempt_id"])
            case "epoch":
                rising = record["epoch"] > memory.epoch
                self.require("I9", rising, f"{agent} accepts {record['epoch']} at {memory.epoch}")
                memory.epoch = record["epoch"]

    def spoke(self, agent: str, endpoint: str, epoch: int, hello: float) -> None:
        """Takes that an agent was welcomed."""
        key = agent, endpoint
        if former := self._sessions.get(key):
            self._former[key] = former, self._now()
        self._sessions[key] = Spoken(epoch, {0: hello})

    def beat(self, agent: str, endpoint: str, number: int) -> None:
        """Takes a heartbeat as it leaves an agent."""
        if session := self._sessions.get((agent, endpoint)):
            session.sent[number] = self._now()

    def echoed(self, agent: str, endpoint: str, number: int) -> None:
        """Takes that an agent hears which heartbeat was received."""
        if session := self._sessions.get((agent, endpoint)):
            session.confirmed = max(session.confirmed, number)

    def ordered(self, agent: str, attempt_id: str, epoch: int, beat: int, ttl: float) -> None:
        """Takes an order as it reaches an agent; only the first that is not known counts."""
        self._orders.setdefault((agent, attempt_id), Ordered([])).orders.append((epoch, beat, ttl))

    def _check_begin(self, agent: str, attempt_id: str) -> None:
        """The record that effects may begin: only in an open session, and only while it is fresh.

        It is written in the same breath as the fence is asked. A session is over for its agent when
        the number of the next one is on its disk, a moment after the welcome was heard.
        """
        given = self._orders.get((agent, attempt_id))
        if given is None:
            return
        sessions = [s for (name, _), s in self._sessions.items() if name == agent]
        sessions += [
            session
            for (name, _), (session, until) in self._former.items()
            if name == agent and self._now() - until < ACCEPTING
        ]
        # After a restore a number comes a second time: the session of the two that is alive counts.
        newest = [
            (session, beat, ttl)
            for epoch, beat, ttl in given.orders
            for session in sessions
            if session.epoch == epoch
        ]
        epochs = [session.epoch for session in sessions]
        said = f"{attempt_id} begins on {agent}, ordered in {given.orders}, open: {epochs}"
        self.require("I9", bool(newest), said)
        if not newest:
            return
        ages = [
            (self._now() - session.sent.get(max(beat, session.confirmed), 0.0), ttl)
            for session, beat, ttl in newest
        ]
        fresh = any(age < ttl + 0.001 for age, ttl in ages)
        self.require("I20", fresh, f"{attempt_id} begins although its order is stale: {ages}")

    def put_back(self, known: Known) -> None:
        """Takes that the database is an older one now."""
        self.known = known.__copy__()
        self.went_back += 1
