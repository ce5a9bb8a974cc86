"""What an agent makes of a dry run: never the change itself, whatever it is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from helpers.agents import Agent, says
from helpers.orders import CHANGES, Orchestrator, Person, body_of, make_tool
from opsconductor.agent.adoption import Kept
from opsconductor.agent.verify import VerifiedCall
from opsconductor.tool_registry.loader import read_tool
from opsconductor.tool_registry.model import Capture, DryRun, Success, Undo
from opsconductor.tool_registry.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from opsconductor.agent.order import Order
    from opsconductor.agent.report import Report

ALICE = Person.new("alice")
KNOWN = make_tool(
    "known",
    annotations=CHANGES,
    dry_run=DryRun({"argv": ["apt-get", "-s", "install", "--", "{word}"]}),
    capture=Capture({"argv": ["known", "--show"]}, {"parser": "json"}),
    undo=Undo("state", command={"argv": ["known", "--restore={captured.was}"]}),
)
UNKNOWN = make_tool(
    "unknown",
    annotations=CHANGES,
    dry_run=DryRun({"argv": ["unknown", "--only-ask"]}),
    capture=Capture({"argv": ["unknown", "--show"]}, {"parser": "json"}),
    undo=Undo("state", command={"argv": ["unknown", "--restore={captured.was}"]}),
)
ANSWERED = make_tool(
    "answered",
    annotations=CHANGES,
    dry_run=DryRun(
        {"argv": ["answered", "--only-ask"]}, read_only=True, success=Success(exit_codes=(3,))
    ),
)


@pytest.fixture
async def agent(tmp_path: Path) -> Any:
    made = Agent(tmp_path, ALICE, tools=(KNOWN, UNKNOWN, ANSWERED))
    yield made
    made.close()


async def carried_out(agent: Agent, order: Order) -> Report:
    agent.worker.assign(order)
    return await agent.final(order.attempt_id)


def code(report: Report) -> str:
    return report.error.code if report.error else ""


def asking(tool: Any, **changes: Any) -> dict[str, Any]:
    body = body_of(tool, dry_run=True, risk="read_only", undo=NO_UNDO)
    return {**body, **changes}


NO_UNDO = {"strategy": "not_needed", "manual": "", "call": None}


async def test_a_dry_run_known_to_change_nothing_runs_unsigned_and_only_asks(agent: Agent) -> None:
    agent.executor.scripts.append(says(b"Inst htop\n"))
    report = await carried_out(agent, Orchestrator().order(asking(KNOWN)))
    assert (report.state, report.effects) == ("completed", "none")
    assert agent.executor.commands == [["apt-get", "-s", "install", "--", "hello"]]
    assert report.command == "apt-get -s install -- hello"
    assert json.loads(report.output) == {"dry_run": True, "text": "Inst htop\n"}
    assert report.captured == ""


async def test_a_dry_run_it_cannot_judge_needs_the_signature_of_the_change(agent: Agent) -> None:
    body = asking(UNKNOWN)
    refused = await carried_out(agent, Orchestrator().order(body))
    assert (refused.state, code(refused)) == ("not_started", "APPROVAL_MISSING")
    assert agent.executor.calls == []
    signed = Orchestrator(execution_id="exec_2", people=(ALICE,)).order(body)
    report = await carried_out(agent, signed)
    assert report.state == "completed"
    # Nothing is captured: there is nothing an undo could restore.
    assert agent.executor.commands == [["unknown", "--only-ask"]]


async def test_a_tool_without_a_dry_run_is_refused_instead_of_carried_out(agent: Agent) -> None:
    plain = make_tool("change", annotations=CHANGES)
    order = Orchestrator(people=(ALICE,)).order(asking(plain))
    report = await carried_out(agent, order)
    assert (report.state, code(report)) == ("not_started", "NO_DRY_RUN")
    assert agent.executor.calls == []


@pytest.mark.parametrize("value", [False, None, 0, "no"])
async def test_whoever_names_the_key_gets_a_dry_run(agent: Agent, value: Any) -> None:
    order = Orchestrator(people=(ALICE,)).order(asking(KNOWN, dry_run=value))
    await carried_out(agent, order)
    assert agent.executor.commands == [["apt-get", "-s", "install", "--", "hello"]]


async def test_a_dry_run_succeeds_by_its_own_criteria(agent: Agent) -> None:
    agent.executor.scripts += [says(b"would", exit_code=3), says(b"", exit_code=0)]
    good = await carried_out(agent, Orchestrator().order(asking(ANSWERED)))
    assert (good.state, json.loads(good.output)["text"]) == ("completed", "would")
    again = Orchestrator(execution_id="exec_2").order(asking(ANSWERED))
    bad = await carried_out(agent, again)
    assert (bad.state, code(bad)) == ("failed", "EXIT_CODE")


async def test_a_dry_run_is_never_undone(agent: Agent) -> None:
    signed = Orchestrator(people=(ALICE,))
    body = asking(UNKNOWN, undo={"strategy": "state", "manual": "", "call": None})
    first = signed.order(body)
    assert (await carried_out(agent, first)).state == "completed"
    undo = signed.order(
        body, kind="undo", undoes_attempt_id=first.attempt_id, captured=b'{"was":"x"}'
    )
    report = await carried_out(agent, undo)
    assert (report.state, code(report)) == ("not_started", "CAPTURE_UNVERIFIED")
    assert agent.executor.commands == [["unknown", "--only-ask"]]


def test_an_agent_that_comes_back_still_knows_that_it_only_asked() -> None:
    tool = Registry.load().get("install_package")
    assert read_tool(tool.source)[0] is not None
    call = VerifiedCall(tool, {"package": "htop"}, None, section="dry_run")
    kept = Kept("e", "s", "", {}, 1000, "dry_run", call, None)
    again = Kept.from_bytes(kept.to_bytes(), Registry([tool]))
    assert (again.section, again.call.section) == ("dry_run", "dry_run")
