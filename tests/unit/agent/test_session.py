from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest

from helpers.agents import Agent, Gate
from helpers.fake_orchestrator import FakeOrchestrator
from helpers.links import linked
from helpers.orders import CHANGE, READ, Orchestrator, Person, body_of
from opsconductor.agent.executors.base import Outcome
from opsconductor.agent.report import Report
from opsconductor.agent.session import link as link_module
from opsconductor.agent.session.frames import HELLO_REPORT_BYTES, hello_reports
from opsconductor.rpc.channel import AGENT_MESSAGE_BYTES
from opsconductor.v1 import agent_service_pb2 as pb
from opsconductor.v1 import execution_service_pb2 as states

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import grpc

    from opsconductor.agent.executors.base import Call, Sink

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


async def test_an_order_goes_from_assign_to_acknowledged_report(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    async with linked(agent, orchestrator):
        connection = await orchestrator.connection()
        order = Orchestrator(people=(ALICE,)).order(body_of(CHANGE))
        connection.assign(order)
        report = await orchestrator.report(order.attempt_id)
        assert report.state == states.ATTEMPT_STATE_COMPLETED
        assert report.effects == states.EFFECTS_DONE
        assert report.session_epoch == connection.epoch
        assert not agent.worker.all_acknowledged
        connection.ack(order.attempt_id)
        await orchestrator.until(lambda: agent.worker.all_acknowledged)


async def test_hello_tells_what_is_not_acknowledged_until_it_is(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    order = Orchestrator().order(body_of(READ))
    async with linked(agent, orchestrator):
        first = await orchestrator.connection(1)
        first.assign(order)
        await orchestrator.report(order.attempt_id)
        first.end()
        second = await orchestrator.connection(2)
        (told,) = second.hello.attempts
        assert (told.attempt_id, told.state) == (order.attempt_id, states.ATTEMPT_STATE_COMPLETED)
        second.ack(order.attempt_id)
        await orchestrator.until(lambda: agent.worker.all_acknowledged)
        second.end()
        third = await orchestrator.connection(3)
        assert list(third.hello.attempts) == []
        assert (third.hello.last_session_epoch, third.hello.incarnation) == (2, "inc-1")


async def test_attempts_go_on_while_the_connection_is_lost(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    gate = Gate()
    agent.executor.scripts.append(gate)
    order = Orchestrator().order(body_of(READ))
    async with linked(agent, orchestrator):
        first = await orchestrator.connection(1)
        first.assign(order)
        await gate.entered.wait()
        first.end()
        second = await orchestrator.connection(2)
        assert [each.state for each in second.hello.attempts] == [states.ATTEMPT_STATE_RUNNING]
        gate.open.set()
        report = await orchestrator.report(order.attempt_id, connection=2)
        assert report.state == states.ATTEMPT_STATE_COMPLETED
        assert len(agent.executor.calls) == 1


async def test_heartbeats_are_sent_and_counted(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    async with linked(agent, orchestrator):
        connection = await orchestrator.connection()
        await orchestrator.until(
            lambda: (
                [f.heartbeat.number for f in connection.frames if f.HasField("heartbeat")][:3]
                == [1, 2, 3]
            )
        )


async def test_a_silent_orchestrator_is_left_and_found_again(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    orchestrator.echo, orchestrator.timeout = False, 0.15
    async with linked(agent, orchestrator):
        await orchestrator.connection(2)


async def test_a_lower_epoch_is_refused(
    agent: Agent, orchestrator: FakeOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(agent, orchestrator):
        (await orchestrator.connection(1)).end()
        await orchestrator.until(lambda: agent.journal.epoch == 2)
    orchestrator.epoch = -10
    async with linked(agent, orchestrator):
        stale = await orchestrator.connection(3)
        stale.assign(Orchestrator().order(body_of(READ)))
        await orchestrator.connection(5)
    assert agent.executor.calls == []
    assert "an old replica" in caplog.text


async def test_a_replaced_store_gets_no_work_until_a_person_accepts_it(
    agent: Agent, orchestrator: FakeOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(agent, orchestrator):
        await orchestrator.connection(1)
        await orchestrator.until(lambda: agent.journal.epoch == 1)
    orchestrator.incarnation, orchestrator.epoch = "inc-2", 100
    async with linked(agent, orchestrator):
        (await orchestrator.connection(2)).assign(Orchestrator().order(body_of(READ)))
        await orchestrator.connection(3)
    assert agent.executor.calls == []
    assert "--accept-incarnation inc-2" in caplog.text
    agent.journal.pin_incarnation("inc-2")
    orchestrator.epoch = 0
    orchestrator.connections.clear()
    async with linked(agent, orchestrator):
        order = Orchestrator().order(body_of(READ))
        (await orchestrator.connection()).assign(order)
        await orchestrator.report(order.attempt_id)


async def test_an_order_for_an_earlier_session_is_refused(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    async with linked(agent, orchestrator):
        (await orchestrator.connection(1)).end()
        second = await orchestrator.connection(2)
        second.epoch = 1
        order = Orchestrator().order(body_of(READ))
        second.assign(order)
        report = await orchestrator.report(order.attempt_id, connection=2)
        assert (report.state, report.error.code) == (
            states.ATTEMPT_STATE_NOT_STARTED,
            "STALE_EPOCH",
        )


async def test_an_order_for_another_session_of_the_same_number_is_refused(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    """Epochs start over for an agent without its journal at a store that was put back."""
    async with linked(agent, orchestrator):
        connection = await orchestrator.connection()
        connection.hello.session_nonce = b"of another session"
        order = Orchestrator().order(body_of(READ))
        connection.assign(order)
        report = await orchestrator.report(order.attempt_id)
        assert (report.state, report.error.code) == (
            states.ATTEMPT_STATE_NOT_STARTED,
            "STALE_EPOCH",
        )
    assert agent.executor.calls == []


async def test_cancel_of_an_unknown_attempt_is_answered_as_not_started(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    async with linked(agent, orchestrator):
        connection = await orchestrator.connection()
        connection.send(cancel=pb.CancelAttempt(attempt_id="att_x", reason="gone"))
        report = await orchestrator.report("att_x")
        assert (report.state, report.error.code) == (
            states.ATTEMPT_STATE_NOT_STARTED,
            "TAKEN_BACK",
        )


async def test_a_frame_the_agent_does_not_know_ends_the_session_only(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    async with linked(agent, orchestrator):
        connection = await orchestrator.connection(1)
        connection.send()
        await orchestrator.connection(2)


async def test_draining_is_announced_now_and_at_the_next_connect(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    async with linked(agent, orchestrator) as shared:
        first = await orchestrator.connection(1)
        agent.worker.drain("maintenance")
        shared.board.announce_draining()
        await orchestrator.until(lambda: any(f.HasField("draining") for f in first.frames))
        first.end()
        second = await orchestrator.connection(2)
        await orchestrator.until(lambda: any(f.HasField("draining") for f in second.frames))


def writes(*pieces: bytes) -> Any:
    async def script(call: Call, sink: Sink, _: asyncio.Event) -> Outcome:
        for piece in pieces:
            await sink.write("stdout", piece)
            await asyncio.sleep(0)
        return Outcome.ended(call, 0)

    return script


async def test_output_arrives_exactly_and_the_spool_is_emptied(
    agent: Agent, orchestrator: FakeOrchestrator, tmp_path: Path
) -> None:
    data = random.Random(7).randbytes(3_000_000)
    agent.executor.scripts.append(
        writes(*(data[i : i + 70_001] for i in range(0, len(data), 70_001)))
    )
    order = Orchestrator().order(body_of(READ))
    async with linked(agent, orchestrator):
        connection = await orchestrator.connection()
        connection.assign(order)
        report = await orchestrator.report(order.attempt_id)
        connection.ack(order.attempt_id)
        await orchestrator.until(lambda: agent.worker.all_acknowledged)
    stored = bytes(orchestrator.output[order.attempt_id, states.OUTPUT_STREAM_STDOUT])
    assert stored == data
    assert report.stdout_sha256 == hashlib.sha256(data).hexdigest()
    assert max(length for _, length in orchestrator.chunks) <= 64 * 1024
    assert list((tmp_path / "spool").iterdir()) == []


async def test_output_goes_on_from_the_acknowledged_offset_after_lost_streams(
    agent: Agent, orchestrator: FakeOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opsconductor.agent.session.outputs.REOPEN_DELAY", 0.01)
    orchestrator.end_output_after = 3
    data = random.Random(8).randbytes(1_000_000)
    agent.executor.scripts.append(writes(data))
    order = Orchestrator().order(body_of(READ))
    async with linked(agent, orchestrator):
        (await orchestrator.connection()).assign(order)
        await orchestrator.report(order.attempt_id)
        key = (order.attempt_id, states.OUTPUT_STREAM_STDOUT)
        await orchestrator.until(lambda: len(orchestrator.output[key]) == len(data))
        assert bytes(orchestrator.output[key]) == data


async def test_output_that_is_not_taken_does_not_hold_up_the_others(
    agent: Agent, orchestrator: FakeOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opsconductor.agent.session.outputs.REOPEN_DELAY", 0.01)
    bad, good = (Orchestrator(name).order(body_of(READ)) for name in ("exec_1", "exec_2"))
    orchestrator.refused_output = bad.attempt_id
    agent.executor.scripts += [writes(b"bad"), writes(b"good")]
    async with linked(agent, orchestrator):
        connection = await orchestrator.connection()
        for order in (bad, good):
            connection.assign(order)
            await orchestrator.report(order.attempt_id)
        key = (good.attempt_id, states.OUTPUT_STREAM_STDOUT)
        await orchestrator.until(lambda: orchestrator.output[key] == b"good")
        assert agent.spools.find(bad.attempt_id) is not None
        connection.ack(bad.attempt_id)
        connection.ack(good.attempt_id)
        await orchestrator.until(lambda: agent.spools.find(good.attempt_id) is None)


async def test_an_acknowledgement_of_an_end_not_told_in_this_session_is_ignored(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    gate = Gate()
    agent.executor.scripts.append(gate)
    order = Orchestrator().order(body_of(READ))
    async with linked(agent, orchestrator):
        connection = await orchestrator.connection()
        connection.assign(order)
        await gate.entered.wait()
        connection.ack(order.attempt_id)
        beats = sum(frame.HasField("heartbeat") for frame in connection.frames)
        await orchestrator.until(lambda: agent.fences._fences[-1]._confirmed > beats)
        gate.open.set()
        await orchestrator.report(order.attempt_id)
        assert not agent.worker.all_acknowledged


async def test_a_restarted_agent_sends_output_and_report_that_were_left(
    agent: Agent, orchestrator: FakeOrchestrator, tmp_path: Path
) -> None:
    agent.executor.scripts.append(writes(b"kept over a restart"))
    order = Orchestrator().order(body_of(READ))
    agent.worker.assign(order)
    agent.fence.begin(1, agent.seconds)
    await agent.final(order.attempt_id)
    agent.close()
    again = Agent(tmp_path)
    async with linked(again, orchestrator):
        connection = await orchestrator.connection()
        (told,) = connection.hello.attempts
        assert told.stdout_bytes == len(b"kept over a restart")
        key = (order.attempt_id, states.OUTPUT_STREAM_STDOUT)
        await orchestrator.until(lambda: orchestrator.output[key] == b"kept over a restart")
    again.close()


async def test_a_hello_stays_small_and_the_rest_follows(
    agent: Agent, orchestrator: FakeOrchestrator
) -> None:
    agent.fence.begin(1, agent.seconds)
    orders = [Orchestrator(f"exec_{number}").order(body_of(READ)) for number in range(12)]
    for order in orders:
        agent.executor.scripts.append(writes(b"x" * 100_000))
        agent.worker.assign(order)
        await agent.final(order.attempt_id)
    async with linked(agent, orchestrator):
        connection = await orchestrator.connection()
        assert len(connection.hello.attempts) == len(orders)
        assert connection.hello.ByteSize() < HELLO_REPORT_BYTES + 64 * 1024
        announced = {
            each.attempt_id
            for each in connection.hello.attempts
            if each.state == states.ATTEMPT_STATE_GRANTED
        }
        assert announced
        for attempt_id in announced:
            await orchestrator.report(attempt_id)


def test_a_hello_has_a_bound_whatever_the_agent_remembers() -> None:
    reports = [
        Report(f"att_{number:026}", "completed", output="x" * 50) for number in range(20_000)
    ]
    running = [Report(f"att_r{number}", "running", command="y" * 16_000) for number in range(64)]
    messages, told = hello_reports([*running, *reports])
    assert sum(each.ByteSize() for each in messages) < AGENT_MESSAGE_BYTES - 200_000
    assert told <= {each.attempt_id for each in messages}


async def test_an_unreachable_orchestrator_is_complained_about_once(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeOrchestrator() as gone:
        pass
    attempts: list[None] = []
    enough = asyncio.Event()

    def open_channel(endpoint: str) -> grpc.aio.Channel:
        attempts.append(None)
        if len(attempts) == 5:
            enough.set()
        return FakeOrchestrator.open_channel(gone, endpoint)

    gone.open_channel = open_channel  # type: ignore[method-assign]
    caplog.set_level(logging.WARNING)
    async with linked(agent, gone):
        await asyncio.wait_for(enough.wait(), 10)
    assert caplog.text.count("no session") == 1
