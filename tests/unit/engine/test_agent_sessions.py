"""What agents and callers that come, go and forget may do to an execution: nothing twice."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.execution import Execution
from opsconductor.orchestrator.domain.executions.states import ExecutionState, StepState
from opsconductor.orchestrator.domain.plans.check import check_plan
from opsconductor.orchestrator.domain.plans.compile import compile_plan
from opsconductor.orchestrator.domain.plans.policy import EMBEDDED_POLICY
from opsconductor.orchestrator.engine import agents as agents_module
from opsconductor.orchestrator.engine.agents import Agents
from opsconductor.orchestrator.engine.engine import Engine
from opsconductor.orchestrator.engine.fleet import Fleet
from opsconductor.orchestrator.engine.listeners import Listeners
from opsconductor.orchestrator.engine.messages import Introduction, Report
from opsconductor.orchestrator.store.base import OpenSession
from opsconductor.orchestrator.store.rows import AgentRow
from opsconductor.orchestrator.store.store import Store
from opsconductor.rpc.errors import PermissionDenied, StaleEpoch, StoreUnavailable
from opsconductor.tool_registry.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution
    from opsconductor.orchestrator.engine.messages import Assignment

REGISTRY = Registry.load()
CHANGE = {"id": "one", "tool": "run_command", "inputs": {"argv": ["touch", "/tmp/x"]}}
READ = {"id": "one", "tool": "check_disk_space", "inputs": {"path": "/"}}


def _approve(approval_id: str, state: Execution, now: datetime) -> commands.Events:
    return commands.decide(state, approval_id, "approve", "alice", "", now)


@dataclass
class Line:
    """A control stream that only writes down what would be sent."""

    epoch: int = 0
    sent: list[tuple[str, str]] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    closed: str = ""

    def assign(self, assignment: Assignment) -> None:
        self.sent.append(("assign", assignment.attempt_id))
        self.epochs.append(self.epoch)

    def cancel(self, attempt_id: str, reason: str) -> None:
        self.sent.append(("cancel", attempt_id))

    def acknowledge(self, attempt_id: str) -> None:
        self.sent.append(("ack", attempt_id))

    def close(self, reason: str) -> None:
        self.closed = reason


class House:
    """An engine with agents over a real store, and a clock that is set by hand."""

    def __init__(self, store: Store) -> None:
        self.now, self.boottime = datetime.now(UTC), 100.0
        self.store = store
        self.fleet = Fleet()
        self.engine = Engine(store, self.fleet, Listeners(), lambda: self.now)
        self.agents = Agents(
            store, self.fleet, self.engine, lambda: self.now, lambda: self.boottime
        )

    async def enrol(self) -> None:
        expires = self.now + timedelta(days=1)
        row = AgentRow(
            "agt_1", "acme", "edge", "dmz", "", expires, "", False, False, b"{}", None, self.now
        )
        await self.agents.enrolled(row)

    async def connect(self, journal: str = "j1", *reports: Report, epoch: int = 0) -> Line:
        line = Line()
        said = Introduction(
            version="1",
            journal_id=journal,
            boot_id="b",
            services=("automation-service",),
            methods=("command", "local-command"),
            labels={},
            capacity=4,
            last_session_epoch=epoch,
            incarnation="",
            attempts=reports,
        )
        member = await self.agents.connect("agt_1", said, line)
        await self.agents.agree(member, said)
        return line

    async def submit(self, step: dict[str, Any]) -> Execution:
        checked = check_plan({"steps": [step]}, None, REGISTRY, {})
        assert checked.plan is not None, checked.faults
        compiled = compile_plan(checked.plan, REGISTRY, {}, EMBEDDED_POLICY, "acme")
        submitted = ev.Submitted(
            "exec_1", "acme", "", {}, compiled.to_json(), "alice", "alice", "0" * 31 + "1", "1" * 16
        )
        state = await self.engine.begin(submitted)
        for request in state.pending_approvals():
            decide = partial(_approve, request.approval_id)
            state = await self.engine.command("exec_1", decide)
        return state

    async def state(self) -> Execution:
        return await self.engine.execution("exec_1")

    async def attempt(self) -> Attempt:
        return list((await self.state()).attempts.values())[-1]

    async def cancel(self) -> None:
        await self.engine.command(
            "exec_1", lambda state, _: commands.cancel(state, "alice", "stop")
        )


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    now = datetime.now(UTC)
    store = await Store.open(f"sqlite:///{tmp_path}/store.sqlite", clock=lambda: now)
    made = House(store)
    await made.engine.start()
    await made.enrol()
    yield made
    await made.agents.stop()
    await made.engine.stop()
    await store.close()


async def test_an_agent_that_lost_its_journal_is_not_given_a_change_again(house: House) -> None:
    await house.connect("j1")
    await house.submit(CHANGE)
    attempt = await house.attempt()
    with pytest.raises(PermissionDenied, match="JOURNAL_LOST"):
        await house.connect("j2")
    state = await house.state()
    assert state.steps["one"].state is StepState.UNKNOWN
    assert state.state is ExecutionState.ATTENTION_REQUIRED
    error = state.attempts[attempt.attempt_id].error
    assert error is not None
    assert error["code"] == "JOURNAL_LOST"


async def test_a_read_is_tried_again_when_its_agent_lost_its_journal(house: House) -> None:
    await house.connect("j1")
    await house.submit(READ)
    first = await house.attempt()
    with pytest.raises(PermissionDenied, match="JOURNAL_LOST"):
        await house.connect("j2")
    state = await house.state()
    assert state.attempts[first.attempt_id].state == "unknown"
    assert state.steps["one"].state in (StepState.QUEUED, StepState.RUNNING)


async def test_an_agent_with_its_journal_gets_what_never_reached_it(house: House) -> None:
    await house.connect("j1")
    await house.submit(CHANGE)
    line = await house.connect("j1", epoch=1)
    assert line.sent == [("assign", (await house.attempt()).attempt_id)]
    assert line.epochs == [2]


async def test_what_is_cancelled_is_taken_back_and_never_sent_again(house: House) -> None:
    await house.connect("j1")
    await house.submit(CHANGE)
    house.agents.disconnect(next(iter(house.fleet.members())), Line())
    await house.cancel()
    line = await house.connect("j1", epoch=1)
    assert line.sent == [("cancel", (await house.attempt()).attempt_id)]


async def test_work_granted_while_a_session_opens_carries_its_epoch(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.submit(READ)
    commit = house.store.commit

    async def slowly(*ops: Any) -> Any:
        result = await commit(*ops)
        if not any(isinstance(op, OpenSession) for op in ops):
            house.engine.place_soon()
            for _ in range(20):
                await asyncio.sleep(0)
        return result

    monkeypatch.setattr(house.store, "commit", slowly)
    line = await house.connect("j1")
    async with asyncio.timeout(5):
        while not line.sent:  # noqa: ASYNC110 - the line only writes down
            await asyncio.sleep(0)
    assert set(line.epochs) == {1}


async def test_of_two_sessions_that_open_at_once_the_later_epoch_stays(house: House) -> None:
    await house.connect("j1")
    results = await asyncio.gather(
        *(house.connect("j1", epoch=1) for _ in range(5)), return_exceptions=True
    )
    member = house.fleet.get("agt_1")
    assert member is not None
    assert member.session_epoch == 6
    opened = [line for line in results if isinstance(line, Line)]
    assert all(isinstance(other, StaleEpoch | Line) for other in results)
    assert [line for line in opened if not line.closed] == [member.session]


async def test_a_caller_that_hangs_up_leaves_nothing_half_done(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.connect("j1")
    await house.submit(READ)
    attempt = await house.attempt()
    report = Report(attempt.attempt_id, "completed", output={})
    member = house.fleet.get("agt_1")
    assert member is not None
    commit, entered = house.store.commit, asyncio.Event()

    async def told(*ops: Any) -> Any:
        entered.set()
        return await commit(*ops)

    monkeypatch.setattr(house.store, "commit", told)
    reader = asyncio.create_task(house.agents.report(member, report))
    await entered.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await house.agents.report(member, report)
    assert (await house.state()).state is ExecutionState.COMPLETED
    stored = await house.store.events("exec_1")
    assert [item.type for item in stored].count("attempt_finished") == 1


async def test_a_commit_that_was_written_although_it_failed_is_read_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.connect("j1")
    await house.submit(READ)
    attempt = await house.attempt()
    member = house.fleet.get("agt_1")
    assert member is not None
    commit = house.store.commit

    async def lost(*ops: Any) -> Any:
        await commit(*ops)
        monkeypatch.setattr(house.store, "commit", commit)
        raise StoreUnavailable("the connection was lost inside COMMIT")

    report = Report(attempt.attempt_id, "completed", output={})
    monkeypatch.setattr(house.store, "commit", lost)
    with pytest.raises(StoreUnavailable):
        await house.agents.report(member, report)
    await house.agents.report(member, report)
    assert (await house.state()).state is ExecutionState.COMPLETED


async def test_the_watch_for_silence_outlives_a_store_that_does_not_answer(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(agents_module, "HEARTBEAT_INTERVAL", timedelta(milliseconds=2))
    await house.connect("j1")
    await house.submit(READ)
    first = await house.attempt()
    commit, failures = house.store.commit, 0

    async def down(*ops: Any) -> Any:
        nonlocal failures
        failures += 1
        if failures > 2:
            return await commit(*ops)
        raise StoreUnavailable("down")

    monkeypatch.setattr(house.store, "commit", down)
    house.boottime += 60
    house.agents.start()
    async with asyncio.timeout(10):
        while (await house.state()).attempts[first.attempt_id].live:  # noqa: ASYNC110 - of another task
            await asyncio.sleep(0.002)
    assert failures > 2
