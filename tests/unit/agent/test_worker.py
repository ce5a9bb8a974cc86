from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from helpers.agents import Agent, Gate, ends_as, says
from helpers.orders import CHANGE, KEEP, READ, Orchestrator, Person, body_of, call_of
from opsconductor.agent.executors.base import Outcome, StepFailure

if TYPE_CHECKING:
    import asyncio
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


async def test_a_read_runs_and_reports_output_command_and_hashes(agent: Agent) -> None:
    agent.executor.scripts.append(says(b"42\n"))
    report = await carried_out(agent, Orchestrator().order(body_of(READ)))
    assert (report.state, report.effects, report.exit_code) == ("completed", "none", 0)
    assert json.loads(report.output)["text"] == "42\n"
    assert report.command == "read --word=hello"
    assert (report.stdout_bytes, report.stdout_sha256) == (3, hashlib.sha256(b"42\n").hexdigest())
    assert report.start_time <= report.end_time


async def test_the_same_order_twice_starts_once_and_is_answered_from_the_journal(
    agent: Agent, orchestrator: Orchestrator
) -> None:
    order = orchestrator.order(body_of(CHANGE))
    first = await carried_out(agent, order)
    agent.reports.clear()
    agent.worker.assign(order)
    assert agent.reports == [first]
    assert len(agent.executor.calls) == 1


async def test_an_acknowledged_order_never_starts_again(
    agent: Agent, orchestrator: Orchestrator, tmp_path: Path
) -> None:
    order = orchestrator.order(body_of(CHANGE))
    await carried_out(agent, order)
    agent.worker.acknowledge(order.attempt_id)
    agent.close()
    again = Agent(tmp_path, ALICE)
    assert (await carried_out(again, order)).state == "completed"
    assert again.executor.calls == []
    again.close()


async def test_a_refused_order_says_why_and_stays_refused(agent: Agent) -> None:
    order = Orchestrator().order(body_of(CHANGE))
    report = await carried_out(agent, order)
    assert (report.state, report.effects, code(report)) == (
        "not_started",
        "none",
        "APPROVAL_MISSING",
    )
    signed = replace(
        order, approvals=Orchestrator(people=(ALICE,)).order(body_of(CHANGE)).approvals
    )
    agent.reports.clear()
    assert (await carried_out(agent, signed)).state == "not_started"
    assert agent.executor.calls == []


async def test_a_second_attempt_beyond_the_allowance_is_refused(
    agent: Agent, orchestrator: Orchestrator
) -> None:
    await carried_out(agent, orchestrator.order(body_of(CHANGE)))
    report = await carried_out(agent, orchestrator.order(body_of(CHANGE), number=2))
    assert code(report) == "RETRY_NOT_AUTHORISED"
    assert len(agent.executor.calls) == 1


async def test_an_order_of_an_earlier_session_does_not_start(agent: Agent) -> None:
    agent.fence.begin(2, agent.seconds)
    report = await carried_out(agent, Orchestrator(epoch=1).order(body_of(READ)))
    assert code(report) == "STALE_EPOCH"


async def test_an_agent_that_was_frozen_starts_nothing(agent: Agent) -> None:
    agent.seconds += 20
    report = await carried_out(agent, Orchestrator().order(body_of(READ)))
    assert code(report) == "START_TTL_EXPIRED"


async def test_a_later_echo_keeps_an_order_fresh(agent: Agent) -> None:
    agent.seconds += 15
    agent.fence.sent(1)
    agent.fence.confirmed(1)
    agent.seconds += 15
    report = await carried_out(agent, Orchestrator().order(body_of(READ)))
    assert report.state == "completed"


async def test_an_unheard_heartbeat_keeps_nothing_fresh(agent: Agent) -> None:
    agent.seconds += 20
    agent.fence.sent(1)
    report = await carried_out(agent, Orchestrator().order(body_of(READ)))
    assert code(report) == "START_TTL_EXPIRED"


async def test_cancel_ends_what_runs(agent: Agent, orchestrator: Orchestrator) -> None:
    gate = Gate()
    agent.executor.scripts.append(gate)
    order = orchestrator.order(body_of(CHANGE))
    agent.worker.assign(order)
    await gate.entered.wait()
    agent.worker.cancel(order.attempt_id, "no longer wanted")
    report = await agent.final(order.attempt_id)
    assert (report.state, report.effects) == ("cancelled", "possible")


async def test_cancel_before_the_order_arrives_refuses_it_for_ever(
    agent: Agent, orchestrator: Orchestrator, tmp_path: Path
) -> None:
    order = orchestrator.order(body_of(CHANGE))
    agent.worker.cancel(order.attempt_id, "changed my mind")
    assert code(await agent.final(order.attempt_id)) == "TAKEN_BACK"
    agent.close()
    again = Agent(tmp_path, ALICE)
    assert code(await carried_out(again, order)) == "TAKEN_BACK"
    assert again.executor.calls == []
    again.close()


async def test_cancel_during_the_precheck_means_not_started(agent: Agent) -> None:
    gate = Gate()
    agent.executor.scripts.append(gate)
    order = Orchestrator().order(body_of(READ, precheck=call_of(READ)))
    agent.worker.assign(order)
    await gate.entered.wait()
    agent.worker.cancel(order.attempt_id, "stop")
    report = await agent.final(order.attempt_id)
    assert (report.state, code(report)) == ("not_started", "TAKEN_BACK")
    assert len(agent.executor.calls) == 1


async def test_a_failing_precheck_fails_the_step_without_effects(
    agent: Agent, orchestrator: Orchestrator
) -> None:
    agent.executor.scripts.append(says(b"disk is full", 1, "stderr"))
    report = await carried_out(agent, orchestrator.order(body_of(CHANGE, precheck=call_of(READ))))
    assert (report.state, report.effects, code(report)) == ("failed", "none", "PRECHECK_FAILED")
    assert "disk is full" in (report.error.message if report.error else "")
    assert len(agent.executor.calls) == 1


async def test_a_failing_verification_asks_for_undo(
    agent: Agent, orchestrator: Orchestrator
) -> None:
    agent.executor.scripts += [says(b""), says(b"still down", 1, "stderr")]
    report = await carried_out(agent, orchestrator.order(body_of(CHANGE, verify=call_of(READ))))
    assert (report.state, report.effects, code(report)) == ("failed", "done", "VERIFY_FAILED")
    assert report.error is not None
    assert report.error.error_class == "rollback_required"


async def test_a_nonzero_exit_fails_with_the_last_line_of_stderr(
    agent: Agent, orchestrator: Orchestrator
) -> None:
    agent.executor.scripts.append(says(b"first\nUnit not found.\n", 5, "stderr"))
    report = await carried_out(agent, orchestrator.order(body_of(CHANGE)))
    assert (report.state, report.effects, report.exit_code) == ("failed", "possible", 5)
    assert report.error is not None
    assert "Unit not found." in report.error.message
    assert report.stderr_bytes == len(b"first\nUnit not found.\n")


async def test_the_steps_own_success_criterion_is_judged(agent: Agent) -> None:
    body = body_of(READ, success='output.text.contains("ok")')
    agent.executor.scripts.append(says(b"not good\n"))
    report = await carried_out(agent, Orchestrator().order(body))
    assert (report.state, code(report)) == ("failed", "SUCCESS_CRITERIA")
    agent.executor.scripts.append(says(b"ok\n"))
    report = await carried_out(agent, Orchestrator("exec_2").order(body))
    assert report.state == "completed"


@pytest.mark.parametrize(
    ("outcome", "state", "effects"),
    [
        (Outcome.unreachable("CONNECT_REFUSED", "web-01 refused"), "unreachable", "none"),
        (Outcome.refused("COMMAND_NOT_FOUND", "no such program"), "failed", "none"),
        (
            Outcome("unknown", effects="possible", error=StepFailure("LOST", "gone", "unknown")),
            "unknown",
            "possible",
        ),
        (
            Outcome("cancel_unverified", effects="possible", survivors=("pid 7 sleep",)),
            "cancel_unverified",
            "possible",
        ),
    ],
)
async def test_ends_that_are_no_success_are_reported_as_they_are(
    agent: Agent, orchestrator: Orchestrator, outcome: Outcome, state: str, effects: str
) -> None:
    agent.executor.scripts.append(ends_as(outcome))
    report = await carried_out(agent, orchestrator.order(body_of(CHANGE)))
    assert (report.state, report.effects, report.survivors) == (state, effects, outcome.survivors)


async def test_a_defect_of_an_executor_during_a_change_is_unknown(
    agent: Agent, orchestrator: Orchestrator
) -> None:
    async def broken(_: Call, __: Sink, ___: asyncio.Event) -> Outcome:
        raise ZeroDivisionError

    agent.executor.scripts += [broken, broken]
    change = await carried_out(agent, orchestrator.order(body_of(CHANGE)))
    read = await carried_out(agent, orchestrator.order(body_of(READ, "two")))
    assert (change.state, change.effects, code(change)) == ("unknown", "possible", "AGENT_DEFECT")
    assert (read.state, read.effects) == ("failed", "none")


KEEP_BODY = body_of(KEEP, undo={"strategy": "state", "manual": "", "call": None})


async def test_state_is_captured_before_the_change_and_restored_from_the_agents_own_record(
    agent: Agent, orchestrator: Orchestrator
) -> None:
    agent.executor.scripts.append(says(b'{"was": "blue"}'))
    forward = await carried_out(agent, orchestrator.order(KEEP_BODY))
    assert json.loads(forward.captured) == {"was": "blue"}
    undo = orchestrator.order(
        KEEP_BODY,
        kind="undo",
        captured=forward.captured.encode(),
        undoes_attempt_id=forward.attempt_id,
    )
    report = await carried_out(agent, undo)
    assert report.state == "completed"
    assert agent.executor.commands == [
        ["keep", "--show"],
        ["keep", "--word=hello"],
        ["keep", "--restore=blue"],
    ]


async def test_a_captured_state_the_agent_did_not_record_is_never_restored(
    agent: Agent, orchestrator: Orchestrator
) -> None:
    agent.executor.scripts.append(says(b'{"was": "blue"}'))
    forward = await carried_out(agent, orchestrator.order(KEEP_BODY))
    for number, (captured, of) in enumerate(
        [
            (b'{"was":"red"}', forward.attempt_id),
            (b"", forward.attempt_id),
            (forward.captured.encode(), "att_other"),
        ],
        start=1,
    ):
        undo = orchestrator.order(
            KEEP_BODY, kind="undo", number=number, captured=captured, undoes_attempt_id=of
        )
        assert code(await carried_out(agent, undo)) == "CAPTURE_UNVERIFIED"
    assert len(agent.executor.calls) == 2


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b'{"was": "' + b"x" * 70_000 + b'"}', "CAPTURE_TOO_LARGE"),
        (b"not json", "CAPTURE_FAILED"),
    ],
)
async def test_without_a_captured_state_nothing_is_changed(
    agent: Agent, orchestrator: Orchestrator, said: bytes, expected: str
) -> None:
    agent.executor.scripts.append(says(said))
    report = await carried_out(agent, orchestrator.order(KEEP_BODY))
    assert (report.state, code(report)) == ("not_started", expected)
    assert len(agent.executor.calls) == 1


async def test_more_than_the_capacity_is_refused(tmp_path: Path) -> None:
    agent, gate = Agent(tmp_path, capacity=1), Gate()
    agent.executor.scripts.append(gate)
    first, second = (Orchestrator(name).order(body_of(READ)) for name in ("exec_1", "exec_2"))
    agent.worker.assign(first)
    await gate.entered.wait()
    assert code(await carried_out(agent, second)) == "AGENT_FULL"
    gate.open.set()
    assert (await agent.final(first.attempt_id)).state == "completed"
    agent.close()
