"""Frames and orders that nothing can be made of stay alone: nothing else is held up by them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration

from helpers.agents import Agent
from helpers.fake_orchestrator import FakeOrchestrator
from helpers.links import linked
from helpers.orders import CHANGE, READ, Orchestrator, Person, body_of
from helpers.places import until
from opsconductor.agent.poison import tool_of
from opsconductor.agent.session import link as link_module
from opsconductor.agent.session.poison_frames import FRAMES_KEPT, PoisonFrames
from opsconductor.v1 import agent_service_pb2 as pb
from opsconductor.v1 import execution_service_pb2 as states

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator
    from pathlib import Path

    from opsconductor.agent.executors.base import Call, Outcome, Sink

ALICE = Person.new("alice")
IMPOSSIBLE = Duration(seconds=2**62)


@pytest.fixture(autouse=True)
def quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(link_module, "LONGEST_WAIT", 0.05)


@pytest.fixture
async def server() -> AsyncIterator[FakeOrchestrator]:
    async with FakeOrchestrator() as made:
        yield made


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    made = Agent(tmp_path, ALICE)
    yield made
    made.close()


def kept(agent: Agent) -> list[bytes]:
    return [path.read_bytes() for path in sorted((agent.folder / "poison").glob("*"))]


UNKNOWN_FIELD = b"\xfa\x3e\x03abc"
"""Field 1007, bytes: what a later version may send."""


async def test_a_frame_of_an_unknown_kind_ends_the_session_and_is_kept(
    agent: Agent, server: FakeOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(agent, server):
        connection = await server.connection()
        await until(lambda: agent.journal.epoch == 1)
        before = (agent.folder / "journal").read_bytes()
        connection.send_bytes(UNKNOWN_FIELD)
        await server.connection(2)
        assert (agent.folder / "journal").read_bytes().startswith(before)
    assert kept(agent) == [UNKNOWN_FIELD]
    assert "made no sense" in caplog.text
    assert list(agent.journal.unacknowledged()) == []


async def test_what_is_no_message_at_all_is_kept_as_it_came(
    agent: Agent, server: FakeOrchestrator
) -> None:
    async with linked(agent, server):
        (await server.connection()).send_bytes(b"\xff\xff\xff\xff not protobuf")
        await server.connection(2)
    assert kept(agent) == [b"\xff\xff\xff\xff not protobuf"]


async def test_an_acknowledgement_of_an_unknown_stream_changes_nothing(
    agent: Agent, server: FakeOrchestrator
) -> None:
    async def says(_: Call, sink: Sink, __: asyncio.Event) -> Outcome:
        from opsconductor.agent.executors.base import Outcome

        await sink.write("stdout", b"hello")
        return Outcome("completed", 0)

    server.ack_stream = 9
    agent.executor.scripts.append(says)
    order = Orchestrator().order(body_of(READ))
    async with linked(agent, server):
        (await server.connection()).assign(order)
        await server.connection(2)
        spool = agent.spools.find(order.attempt_id)
        assert spool is not None
        assert not spool.delivered
    assert pb.OutputAck.FromString(kept(agent)[0]).attempt_id == order.attempt_id


async def test_a_welcome_no_session_can_live_by_is_refused(
    agent: Agent, server: FakeOrchestrator
) -> None:
    server.heartbeat = 5000.0
    async with linked(agent, server):
        await server.connection(2)
    assert agent.journal.epoch == 0


def test_only_the_newest_frames_are_kept(tmp_path: Path) -> None:
    frames = PoisonFrames(tmp_path / "poison")
    for number in range(FRAMES_KEPT + 5):
        frames.keep(str(number).encode())
    files = sorted((tmp_path / "poison").iterdir())
    assert [path.read_bytes() for path in files] == [
        str(number).encode() for number in range(5, FRAMES_KEPT + 5)
    ]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


async def test_an_order_that_cannot_be_read_twice_is_reported_and_its_tool_refused(
    agent: Agent, server: FakeOrchestrator
) -> None:
    orchestrator = Orchestrator()
    poison = orchestrator.order(body_of(READ))
    good = Orchestrator("exec_2").order(body_of(READ))
    other = Orchestrator("exec_3", people=(ALICE,)).order(body_of(CHANGE))
    async with linked(agent, server):
        (await server.connection()).assign(poison, start_ttl=IMPOSSIBLE)
        second = await server.connection(2)
        assert list(second.hello.attempts) == []
        second.assign(poison, start_ttl=IMPOSSIBLE)
        report = await server.report(poison.attempt_id, 2)
        assert (report.state, report.error.code) == (states.ATTEMPT_STATE_NOT_STARTED, "POISON")
        second.assign(good)
        report = await server.report(good.attempt_id, 2)
        assert (report.state, report.error.code) == (states.ATTEMPT_STATE_NOT_STARTED, "POISON")
        second.assign(other)
        assert (await server.report(other.attempt_id, 2)).state == states.ATTEMPT_STATE_COMPLETED
    assert [argv[0] for argv in agent.executor.commands] == ["change"]
    assert len(kept(agent)) == 1


async def explodes(_: Call, __: Sink, ___: asyncio.Event) -> Outcome:
    raise RuntimeError("a defect of a third party")


async def test_a_tool_whose_executor_crashes_twice_is_refused_until_a_restart(
    agent: Agent, tmp_path: Path
) -> None:
    codes = []
    agent.executor.scripts += [explodes, explodes]
    for number in range(3):
        order = Orchestrator(f"exec_{number}").order(body_of(READ))
        agent.worker.assign(order)
        report = await agent.final(order.attempt_id)
        codes.append((report.state, report.error and report.error.code))
    assert codes == [("failed", "AGENT_DEFECT"), ("failed", "POISON"), ("not_started", "POISON")]
    assert len(agent.executor.calls) == 2
    agent.journal.close()
    again = Agent(tmp_path)
    order = Orchestrator("exec_9").order(body_of(READ))
    again.worker.assign(order)
    assert (await again.final(order.attempt_id)).state == "completed"
    again.close()


async def test_a_change_whose_executor_crashed_stays_unknown_also_when_it_is_poison(
    agent: Agent,
) -> None:
    agent.executor.scripts += [explodes, explodes]
    for number in range(2):
        order = Orchestrator(f"exec_{number}", people=(ALICE,)).order(body_of(CHANGE))
        agent.worker.assign(order)
        report = await agent.final(order.attempt_id)
        assert (report.state, report.effects) == ("unknown", "possible")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"tool": 3}', b"[" * 100_000, b"\xff"], ids=len
)
def test_bodies_nobody_can_read_are_told_apart(body: bytes) -> None:
    order = Orchestrator().order(body_of(READ))
    assert tool_of(replace(order, body=body)).startswith("of body ")
    assert tool_of(order) == "read"


async def test_an_order_above_the_limit_is_refused(agent: Agent, server: FakeOrchestrator) -> None:
    order = Orchestrator(people=(ALICE,)).order(body_of(CHANGE))
    padding: dict[str, Any] = {"captured": json.dumps("x" * 600_000).encode()}
    async with linked(agent, server):
        (await server.connection()).assign(order, **padding)
        report = await server.report(order.attempt_id)
    assert (report.state, report.error.code) == (
        states.ATTEMPT_STATE_NOT_STARTED,
        "ASSIGN_TOO_LARGE",
    )
    assert agent.executor.calls == []
