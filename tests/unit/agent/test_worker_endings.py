"""The worker at its edges: drain, crashes, full disks, late evidence."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from helpers.agents import Agent, Gate, says
from helpers.orders import CHANGE, READ, Orchestrator, Person, body_of, call_of
from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.rpc.ids import attempt_id

if TYPE_CHECKING:
    from pathlib import Path

    from opsconductor.agent.executors.base import Call, Sink
    from opsconductor.agent.order import Order
    from opsconductor.agent.report import Report

ALICE = Person.new("alice")


@pytest.fixture
async def agent(tmp_path: Path) -> Any:
    made = Agent(tmp_path, ALICE)
    yield made
    made.close()


@pytest.fixture
def orchestrator() -> Orchestrator:
    return Orchestrator(people=(ALICE,))


async def carried_out(agent: Agent, order: Order) -> Report:
    agent.worker.assign(order)
    return await agent.final(order.attempt_id)


def code(report: Report) -> str:
    return report.error.code if report.error else ""


async def test_a_draining_agent_finishes_what_runs_and_takes_nothing_new(agent: Agent) -> None:
    gate = Gate()
    agent.executor.scripts.append(gate)
    first, second = (Orchestrator(name).order(body_of(READ)) for name in ("exec_1", "exec_2"))
    agent.worker.assign(first)
    await gate.entered.wait()
    agent.worker.drain("stopping")
    assert code(await carried_out(agent, second)) == "AGENT_DRAINING"
    gate.open.set()
    await agent.worker.wait_idle()
    assert (await agent.final(first.attempt_id)).state == "completed"


async def test_after_a_crash_a_change_is_unknown_with_the_output_it_had(
    agent: Agent, orchestrator: Orchestrator, tmp_path: Path
) -> None:
    async def writes_and_hangs(_: Call, sink: Sink, __: asyncio.Event) -> Outcome:
        await sink.write("stdout", b"half a line")
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    started = asyncio.Event()
    agent.executor.scripts.append(writes_and_hangs)
    order = orchestrator.order(body_of(CHANGE))
    agent.worker.assign(order)
    await started.wait()
    agent.close()
    again = Agent(tmp_path, ALICE)
    (report,) = again.worker.reports()
    assert (report.state, report.effects) == ("unknown", "possible")
    assert report.stdout_sha256 == hashlib.sha256(b"half a line").hexdigest()
    assert (await carried_out(again, order)).state == "unknown"
    assert again.executor.calls == []
    again.close()


async def test_an_end_that_was_not_acknowledged_is_reported_again_exactly(
    agent: Agent, tmp_path: Path
) -> None:
    agent.executor.scripts.append(says(b"out"))
    report = await carried_out(agent, Orchestrator().order(body_of(READ)))
    agent.close()
    again = Agent(tmp_path)
    assert again.worker.reports() == [report]
    assert not again.worker.all_acknowledged
    again.worker.acknowledge(report.attempt_id)
    assert again.worker.reports() == []
    again.spools.acknowledge(report.attempt_id, "stdout", 3)
    assert again.worker.all_acknowledged
    assert list((tmp_path / "spool").iterdir()) == []
    again.close()


async def test_a_full_disk_refuses_before_the_start(
    agent: Agent, orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opsconductor.agent.record_log import JournalFull

    async def full(_: object) -> None:
        raise JournalFull("no space left")

    monkeypatch.setattr(agent.journal, "executing", full)
    report = await carried_out(agent, orchestrator.order(body_of(CHANGE)))
    assert (report.state, code(report)) == ("not_started", "DISK_FULL")
    assert agent.executor.calls == []


async def test_a_broken_journal_stops_the_agent(
    agent: Agent, orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opsconductor.agent.record_log import JournalFailed

    async def failed(_: object) -> None:
        raise JournalFailed("input/output error")

    monkeypatch.setattr(agent.journal, "executing", failed)
    agent.worker.assign(orchestrator.order(body_of(CHANGE)))
    await asyncio.wait_for(agent.worker.broken.wait(), 5)
    assert agent.executor.calls == []


async def test_long_attempts_are_reported_as_running(agent: Agent) -> None:
    gate = Gate()
    agent.executor.scripts.append(gate)
    order = Orchestrator().order(body_of(READ))
    agent.worker.assign(order)
    await agent.changed()
    assert [report.state for report in agent.reports] == ["running"]
    gate.open.set()
    await agent.final(order.attempt_id)


async def test_steps_get_their_trace_context(agent: Agent) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await carried_out(agent, Orchestrator().order(body_of(READ), traceparent=trace))
    (call,) = agent.executor.calls
    assert call.env["TRACEPARENT"] == trace
    assert call.attempt_id == attempt_id("exec_1", "one", "forward", 1)


async def test_output_that_is_not_portable_json_is_left_out_with_a_note(agent: Agent) -> None:
    async def odd(call: Call, _: Sink, __: asyncio.Event) -> Outcome:
        return Outcome.ended(call, 0, {"text": "x", "huge": 2**60})

    agent.executor.scripts.append(odd)
    report = await carried_out(agent, Orchestrator().order(body_of(READ)))
    assert report.state == "completed"
    assert json.loads(report.output)["omitted"] is True


async def test_a_verification_that_cannot_be_made_does_not_hide_that_the_step_ran(
    agent: Agent, orchestrator: Orchestrator
) -> None:
    async def changes_hands(call: Call, _: Sink, __: asyncio.Event) -> Outcome:
        def refuse(*_: object) -> Any:
            raise Refused(Outcome.refused("CONNECTION_UNSUPPORTED", "no way there"))

        agent.shop.caller.choose = refuse
        return Outcome.ended(call, 0)

    agent.executor.scripts.append(changes_hands)
    report = await carried_out(agent, orchestrator.order(body_of(CHANGE, verify=call_of(READ))))
    assert (report.state, report.effects, code(report)) == ("failed", "done", "VERIFY_FAILED")
    assert report.error is not None
    assert "no way there" in report.error.message


async def test_a_start_whose_record_took_too_long_is_not_made(
    agent: Agent, orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opsconductor.agent.attempt.START_WITHIN", -1.0)
    report = await carried_out(agent, orchestrator.order(body_of(CHANGE)))
    assert (report.state, report.effects, code(report)) == ("failed", "none", "START_OVERDUE")
    assert agent.executor.calls == []
