"""An agent belongs to a restored store once that has taken in its journal, and never silently."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.agents import Agent
from helpers.fake_orchestrator import Connection, FakeOrchestrator
from helpers.links import linked
from helpers.orders import CHANGE, READ, Orchestrator, Person, body_of
from opsconductor.agent.session import link as link_module
from opsconductor.agent.session.handover import journal_frames
from opsconductor.v1 import agent_service_pb2 as pb
from opsconductor.v1 import execution_service_pb2 as states

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ALICE = Person.new("alice")


@pytest.fixture(autouse=True)
def quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(link_module, "LONGEST_WAIT", 0.1)


@pytest.fixture
async def orchestrator() -> AsyncIterator[FakeOrchestrator]:
    async with FakeOrchestrator() as server:
        yield server


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    made = Agent(tmp_path, ALICE)
    yield made
    made.close()


async def _work(agent: Agent, orchestrator: FakeOrchestrator) -> list[str]:
    """Lets an agent do two things; the end of the first is acknowledged."""
    orders = [
        Orchestrator(people=(ALICE,)).order(body_of(CHANGE)),
        Orchestrator(execution_id="exec_2").order(body_of(READ)),
    ]
    async with linked(agent, orchestrator):
        connection = await orchestrator.connection(1)
        for order in orders:
            connection.assign(order)
            await orchestrator.report(order.attempt_id)
        connection.ack(orders[0].attempt_id)
        await orchestrator.until(
            lambda: (entry := agent.journal.find(orders[0].attempt_id)) and entry.acked_at
        )
    return [order.attempt_id for order in orders]


def _entries(connection: Connection) -> list[pb.JournalEntry]:
    return [entry for frame in connection.frames for entry in frame.journal.entries]


def _restored(orchestrator: FakeOrchestrator) -> None:
    orchestrator.incarnation, orchestrator.restored_from = "inc-2", "inc-1"
    orchestrator.epoch = 50


async def test_an_agent_tells_a_restored_store_all_it_remembers_and_then_belongs_to_it(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    changed, read = await _work(agent, orchestrator)
    _restored(orchestrator)
    async with linked(agent, orchestrator):
        connection = await orchestrator.connection(2)
        await orchestrator.until(lambda: connection.frames and connection.frames[-1].journal.last)
        told = {entry.report.attempt_id: entry for entry in _entries(connection)}
        assert told.keys() == {changed, read}
        assert told[changed].started
        assert told[changed].report.state == states.ATTEMPT_STATE_COMPLETED
        assert (told[read].execution_id, told[read].kind) == ("exec_2", "forward")
        assert agent.journal.incarnation == "inc-1"
        connection.send(journal_taken=pb.JournalTaken(incarnation="inc-2"))
        order = Orchestrator(execution_id="exec_3").order(body_of(READ))
        connection.assign(order)
        await orchestrator.report(order.attempt_id, 2)
    assert agent.journal.incarnation == "inc-2"
    # What was done before stays known: it cannot be done again for the new store either.
    assert agent.journal.find(changed) is not None


async def test_an_agent_that_is_cut_off_while_it_tells_belongs_to_the_old_store(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    await _work(agent, orchestrator)
    _restored(orchestrator)
    async with linked(agent, orchestrator):
        cut = await orchestrator.connection(2)
        await orchestrator.until(lambda: cut.frames and cut.frames[-1].journal.last)
        cut.end()
        again = await orchestrator.connection(3)
        assert again.hello.incarnation == "inc-1"
        await orchestrator.until(lambda: again.frames and again.frames[-1].journal.last)
        assert len(_entries(again)) == 2
    assert agent.journal.incarnation == "inc-1"


@pytest.mark.parametrize("restored_from", ["", "inc-0"])
async def test_a_change_of_store_that_nobody_confirmed_gets_neither_journal_nor_work(
    agent: Agent, orchestrator: FakeOrchestrator, restored_from: str
) -> None:
    await _work(agent, orchestrator)
    _restored(orchestrator)
    orchestrator.restored_from = restored_from
    async with linked(agent, orchestrator):
        connection = await orchestrator.connection(2)
        await orchestrator.connection(3)
    assert connection.frames == []
    assert agent.journal.incarnation == "inc-1"


async def test_a_long_journal_is_told_in_parts(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    await _work(agent, orchestrator)
    frames = list(journal_frames(agent.journal.history(), (), limit=1))
    assert [frame.journal.last for frame in frames] == [False, True]
    assert [len(frame.journal.entries) for frame in frames] == [1, 1]
    (empty,) = journal_frames((), ())
    assert empty.journal.last
