"""The engine with everything around it but the wire: sessions are played by tests."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from helpers.plans import FREE, registry
from opsconductor.orchestrator.engine.agents import Agents
from opsconductor.orchestrator.engine.cluster import Cluster
from opsconductor.orchestrator.engine.engine import Engine
from opsconductor.orchestrator.engine.fleet import Fleet
from opsconductor.orchestrator.engine.history import History
from opsconductor.orchestrator.engine.listeners import Listeners
from opsconductor.orchestrator.engine.messages import Assignment, Introduction, Report
from opsconductor.orchestrator.engine.neighbours import Neighbours
from opsconductor.orchestrator.engine.planning import Planner
from opsconductor.orchestrator.engine.replica import Replica
from opsconductor.orchestrator.engine.submission import Submission, Submissions
from opsconductor.orchestrator.store.rows import AgentRow
from opsconductor.orchestrator.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution
    from opsconductor.orchestrator.domain.plans.policy import Policy
    from opsconductor.orchestrator.engine.fleet import Member

PATIENCE = 5.0  # seconds


@dataclass
class Line:
    """A session that keeps what it was told to send."""

    epoch: int = 0
    assigned: list[Assignment] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    closed: str = ""

    def assign(self, assignment: Assignment) -> None:
        self.assigned.append(assignment)

    def cancel(self, attempt_id: str, reason: str) -> None:
        self.cancelled.append(attempt_id)

    def acknowledge(self, attempt_id: str) -> None:
        self.acknowledged.append(attempt_id)

    def close(self, reason: str) -> None:
        self.closed = reason

    @property
    def steps(self) -> list[str]:
        """The steps assigned, in order."""
        return [assignment.step_id for assignment in self.assigned]


@dataclass
class Clock:
    """The real time, and what a test adds to it."""

    ahead: timedelta = timedelta()
    passed: float = 0.0

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def boottime(self) -> float:
        """Returns seconds on a clock that nobody sets, and what a test adds to it."""
        return time.monotonic() + self.passed

    def wait(self, time: timedelta) -> None:
        """Lets time pass, by all clocks."""
        self.ahead += time
        self.passed += time.total_seconds()


@dataclass
class House:
    """One orchestrator process."""

    store: Store
    policy: Policy
    clock: Clock
    fleet: Fleet
    listeners: Listeners
    engine: Engine
    agents: Agents
    submissions: Submissions
    history: History
    replica: Replica
    cluster: Cluster | None = None
    lines: dict[str, Line] = field(default_factory=dict)

    @classmethod
    async def open(
        cls,
        url: str,
        policy: Policy = FREE,
        clock: Clock | None = None,
        replica: Replica | None = None,
    ) -> House:
        """Opens a store and lets what is in it go on; as one of several, if a replica is given."""
        clock = clock or Clock()
        return await cls.over(await Store.open(url, clock=clock), policy, clock, replica)

    @classmethod
    async def over(
        cls,
        store: Store,
        policy: Policy = FREE,
        clock: Clock | None = None,
        replica: Replica | None = None,
    ) -> House:
        """Goes on over a store that is open."""
        clock = clock or Clock()
        fleet, listeners = Fleet(), Listeners()
        engine = Engine(store, fleet, listeners, clock, replica=replica, steady=clock.boottime)
        agents = Agents(store, fleet, engine, clock, clock.boottime)
        await agents.load()
        planner = Planner(store, registry(), policy, fleet, clock)
        submissions = Submissions(store, planner, engine, clock)
        history = History(store, engine, listeners)
        cluster = None
        if replica is not None:
            neighbours = Neighbours(store, fleet, agents.restoring, planner, replica, clock)
            cluster = Cluster(store, engine, fleet, neighbours, replica, clock)
            await cluster.start()
        await engine.start()
        return cls(
            *(store, policy, clock, fleet, listeners, engine, agents, submissions, history),
            *(replica or Replica(), cluster),
        )

    async def close(self) -> None:
        if self.cluster:
            await self.cluster.leave()
        await self.agents.stop()
        await self.engine.stop()
        await self.store.close()

    async def enrol(self, name: str, tenant: str = "default") -> None:
        await self.agents.enrolled(
            AgentRow(
                agent_id=name,
                tenant=tenant,
                name=name,
                segment="local",
                certificate_sha256="",
                certificate_expire_time=None,
                journal_id="",
                draining=False,
                quarantined=False,
                facts=b"",
                last_seen_time=None,
                create_time=self.clock(),
            )
        )

    async def connect(
        self,
        name: str,
        *attempts: Report,
        capacity: int = 8,
        journal_id: str = "journal",
        **more: Any,
    ) -> Line:
        """Lets an agent connect and agree on what it has."""
        said = Introduction(
            version="1",
            journal_id=journal_id,
            boot_id=more.pop("boot_id", "boot"),
            services=("automation-service",),
            methods=("command", "ssh"),
            labels={},
            capacity=capacity,
            last_session_epoch=more.pop("last_session_epoch", 0),
            incarnation=more.pop("incarnation", ""),
            attempts=attempts,
            instance_id=more.pop("instance_id", ""),
            clock_time=more.pop("clock_time", None),
        )
        line = Line()
        member = await self.agents.connect(name, said, line)
        self.lines[name] = line
        if member.hands_over:
            await self.agents.hand_over(member, more.pop("journal", ()), last=True)
        await self.agents.agree(member, said)
        return line

    def member(self, name: str = "a1") -> Member:
        member = self.fleet.get(name)
        assert member is not None
        return member

    def hang_up(self, name: str = "a1") -> None:
        self.agents.disconnect(self.member(name), self.lines[name])

    async def submit(self, *steps: dict[str, Any], **top: Any) -> Execution:
        request = {key: top.pop(key) for key in ("request_id", "tenant") if key in top}
        submission = Submission(
            source={"steps": list(steps), **top},
            requester="rita",
            submitted_by="rita",
            **{"tenant": "default", **request},
        )
        return (await self.submissions.submit(submission)).execution

    async def state(self, execution: Execution) -> Execution:
        return await self.engine.execution(execution.execution_id)

    async def live(self, execution: Execution, step_id: str) -> Attempt:
        """Waits until an agent has a step, and returns the attempt."""
        await self.until(execution, lambda state: bool(_live(state, step_id)))
        (attempt,) = _live(await self.state(execution), step_id)
        return attempt

    async def until(self, execution: Execution, holds: Callable[[Execution], bool]) -> Execution:
        """Waits for an execution to come to where something holds."""
        with self.listeners.watch(execution.execution_id) as news:
            async with asyncio.timeout(PATIENCE):
                while not holds(state := await self.state(execution)):
                    await news.wait()
                    news.clear()
        return state

    async def ended(self, execution: Execution) -> str:
        """Waits for an execution's end and returns the state in which it is then.

        Where several share a store, a report may be taken a while after it was made.
        """
        return (await self.until(execution, lambda state: not state.open)).state

    async def end(
        self, execution: Execution, step_id: str, state: str = "completed", **fields: Any
    ) -> Report:
        """Reports the end of what an agent has of a step."""
        attempt = await self.live(execution, step_id)
        changes = execution.compiled_step(step_id).changes
        fields.setdefault("effects", "done" if changes and state == "completed" else "none")
        report = Report(attempt.attempt_id, state, **fields)
        await self.agents.report(self.member(attempt.agent_id), report)
        return report


def _live(state: Execution, step_id: str) -> list[Attempt]:
    return [attempt for attempt in state.live_attempts() if attempt.step_id == step_id]
