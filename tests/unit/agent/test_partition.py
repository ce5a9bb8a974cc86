"""An agent that is cut off goes on with what runs, or ends it after as long as it was told."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from helpers.agents import Agent, Gate
from helpers.fake_orchestrator import FakeOrchestrator
from helpers.links import linked
from helpers.orders import CHANGE, Orchestrator, Person, body_of
from helpers.places import until
from opsconductor.agent.session import link as link_module
from opsconductor.agent.session import partition as partition_module
from opsconductor.agent.session.partition import Partition
from opsconductor.agent.session.switchboard import Switchboard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ALICE = Person.new("alice")
TEN_MINUTES = timedelta(minutes=10)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "LOOK_INTERVAL", 0.01)
    monkeypatch.setattr(link_module, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(link_module, "LONGEST_WAIT", 0.05)


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    made = Agent(tmp_path, ALICE)
    yield made
    made.close()


class Wall:
    """A session that is open until it is taken away."""

    replica_id = "r"


@pytest.fixture
async def board(agent: Agent) -> AsyncIterator[Switchboard]:
    made = Switchboard(agent.worker, lambda: agent.seconds)
    watch = asyncio.create_task(Partition(made, agent.worker, TEN_MINUTES).watch())
    yield made
    watch.cancel()


async def started(agent: Agent, name: str = "exec_1") -> str:
    agent.fence.begin(1, agent.seconds)
    gate = Gate()
    agent.executor.scripts.append(gate)
    order = Orchestrator(name, people=(ALICE,)).order(body_of(CHANGE))
    agent.worker.assign(order)
    await asyncio.wait_for(gate.entered.wait(), 10)
    return order.attempt_id


async def test_what_runs_is_ended_with_the_reason_after_the_time_without_any_session(
    agent: Agent, board: Switchboard
) -> None:
    attempt_id = await started(agent)
    agent.seconds += TEN_MINUTES.total_seconds() - 1
    await asyncio.sleep(0.05)
    assert agent.worker.running == 1
    agent.seconds += 1
    await until(lambda: agent.worker.running == 0)
    entry = agent.journal.find(attempt_id)
    assert entry is not None
    report = entry.report
    assert (report.state, report.effects) == ("cancelled", "possible")
    assert report.error is not None
    assert report.error.code == "PARTITIONED"
    assert "no session with any orchestrator for 600 s" in report.error.message
    assert "its processes were ended" in report.error.message, "the evidence of the cancel"


async def test_time_counts_from_the_end_of_the_last_session_only(
    agent: Agent, board: Switchboard
) -> None:
    session = Wall()
    board.add(session)  # type: ignore[arg-type]
    await started(agent)
    agent.seconds += 10 * TEN_MINUTES.total_seconds()
    await asyncio.sleep(0.05)
    board.remove(session)  # type: ignore[arg-type]
    agent.seconds += TEN_MINUTES.total_seconds() / 2
    board.add(session)  # type: ignore[arg-type]
    agent.seconds += TEN_MINUTES.total_seconds()
    board.remove(session)  # type: ignore[arg-type]
    agent.seconds += TEN_MINUTES.total_seconds() / 2
    await asyncio.sleep(0.05)
    assert agent.worker.running == 1
    agent.seconds += TEN_MINUTES.total_seconds() / 2
    await until(lambda: agent.worker.running == 0)


async def test_a_second_partition_is_watched_too(agent: Agent, board: Switchboard) -> None:
    for name in ("exec_1", "exec_2"):
        await started(agent, name)
        agent.seconds += TEN_MINUTES.total_seconds()
        await until(lambda: agent.worker.running == 0)
        session = Wall()
        board.add(session)  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        board.remove(session)  # type: ignore[arg-type]


async def test_the_end_is_told_when_the_orchestrator_is_back(agent: Agent) -> None:
    async with FakeOrchestrator() as server:
        async with linked(agent, server) as shared:
            connection = await server.connection()
            gate = Gate()
            agent.executor.scripts.append(gate)
            order = Orchestrator(people=(ALICE,)).order(body_of(CHANGE))
            connection.assign(order)
            await gate.entered.wait()
            await until(lambda: shared.board.connected)
        watch = Partition(shared.board, agent.worker, timedelta(seconds=0.05)).watch()
        task = asyncio.create_task(watch)
        await until(lambda: agent.worker.running == 0)
        task.cancel()
        async with linked(agent, server):
            (told,) = (await server.connection(2)).hello.attempts
            assert told.error.code == "PARTITIONED"
