"""An undo that needs what the step put out: kept by the agent that saw it, taken from no other."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from helpers.agents import Agent, ends_as, says
from helpers.orders import CHANGES, Orchestrator, Person, body_of, call_of, make_tool
from opsconductor.agent.executors.base import Outcome, StepFailure
from opsconductor.agent.journal import Entry
from opsconductor.tool_registry.expressions import ExpressionError, output_paths

if TYPE_CHECKING:
    from pathlib import Path

    from opsconductor.agent.order import Order
    from opsconductor.agent.report import Report

ALICE = Person.new("alice")
MAKE = make_tool("make", annotations=CHANGES, output={"parser": "json"})
TAKE = make_tool(
    "take",
    annotations=CHANGES,
    command={"argv": ["take", "--", "{thing}"]},
    parameters={
        "type": "object",
        "additionalProperties": False,
        "required": ["thing"],
        "properties": {"thing": {"type": "string", "format": "aws-name"}},
    },
)
TOOLS = (MAKE, TAKE)
UNDO = call_of(TAKE, inputs={"thing": "${{ output.made.id }}"}, late=["thing"])
BODY = body_of(MAKE, undo={"strategy": "call", "manual": "", "call": UNDO})
SIGNED = Orchestrator(people=(ALICE,))


@pytest.fixture
async def agent(tmp_path: Path) -> Any:
    made = Agent(tmp_path, ALICE, tools=TOOLS)
    yield made
    made.close()


async def carried_out(agent: Agent, order: Order) -> Report:
    agent.worker.assign(order)
    return await agent.final(order.attempt_id)


async def made(agent: Agent, output: Any, body: Any = BODY) -> Order:
    """Carries the step out; its program prints this."""
    agent.executor.scripts.append(says(json.dumps(output).encode()))
    order = SIGNED.order(body)
    await carried_out(agent, order)
    return order


def undoing(forward: Order, body: Any = BODY, **changes: Any) -> Order:
    return SIGNED.order(body, kind="undo", **{"undoes_attempt_id": forward.attempt_id, **changes})


def code(report: Report) -> str:
    return report.error.code if report.error else ""


async def test_the_undo_gets_the_value_the_step_put_out(agent: Agent) -> None:
    forward = await made(agent, {"made": {"id": "snap-1"}})
    report = await carried_out(agent, undoing(forward))
    assert (report.state, code(report)) == ("completed", "")
    assert agent.executor.commands[-1] == ["take", "--", "snap-1"]


async def test_the_value_outlives_the_acknowledgement_and_the_agent(
    agent: Agent, tmp_path: Path
) -> None:
    forward = await made(agent, {"made": {"id": "snap-1"}})
    agent.worker.acknowledge(forward.attempt_id)
    agent.journal.compact()
    agent.close()
    again = Agent(tmp_path, ALICE, tools=TOOLS)
    assert (await carried_out(again, undoing(forward))).state == "completed"
    assert again.executor.commands == [["take", "--", "snap-1"]]
    again.close()


@pytest.mark.parametrize(
    "value",
    [
        "-rf",
        "--all",
        "",
        "a\x00b",
        "a b",
        "a\nb",
        'a"b',
        "a'b",
        "$(id)",
        "${{ inputs.word }}",
        "$${{ output.made.id }}",
        "../../etc",
        "\u202esnap",
        "snap\u00ad1",
        "x" * 300,
        7,
        True,
        None,
        ["snap-1"],
        {"id": "snap-1"},
    ],
    ids=repr,
)
async def test_a_hostile_value_undoes_nothing(agent: Agent, value: Any) -> None:
    forward = await made(agent, {"made": {"id": value}})
    before = len(agent.executor.calls)
    report = await carried_out(agent, undoing(forward))
    assert (report.state, code(report)) == ("not_started", "UNDO_VALUE_INVALID")
    assert len(agent.executor.calls) == before


@pytest.mark.parametrize("output", [{}, {"made": {}}, {"made": "snap-1"}, {"id": "snap-1"}])
async def test_an_output_without_the_value_leaves_it_to_a_person(agent: Agent, output: Any) -> None:
    forward = await made(agent, output)
    report = await carried_out(agent, undoing(forward))
    assert (report.state, code(report)) == ("not_started", "UNDO_VALUE_MISSING")
    assert "a person has to look" in (report.error.message if report.error else "")


async def test_a_step_whose_end_was_not_seen_is_not_undone_by_guess(agent: Agent) -> None:
    failure = StepFailure("CONNECTION_LOST", "gone", "unknown")
    agent.executor.scripts.append(ends_as(Outcome("unknown", effects="possible", error=failure)))
    forward = SIGNED.order(BODY)
    await carried_out(agent, forward)
    assert code(await carried_out(agent, undoing(forward))) == "UNDO_VALUE_MISSING"


async def test_a_value_that_was_masked_is_no_value(tmp_path: Path) -> None:
    agent = Agent(tmp_path, ALICE, tools=TOOLS, secrets=("hunter2hunter2",))
    forward = await made(agent, {"made": {"id": "snap-hunter2hunter2"}})
    assert code(await carried_out(agent, undoing(forward))) == "UNDO_VALUE_MISSING"
    agent.close()


async def test_another_agent_knows_no_value(agent: Agent, tmp_path: Path) -> None:
    forward = await made(agent, {"made": {"id": "snap-1"}})
    (tmp_path / "other").mkdir()
    other = Agent(tmp_path / "other", ALICE, tools=TOOLS)
    assert code(await carried_out(other, undoing(forward))) == "UNDO_VALUE_MISSING"
    assert other.executor.calls == []
    other.close()


async def test_the_orchestrator_cannot_bring_a_value_of_its_own(agent: Agent) -> None:
    forward = await made(agent, {"made": {"id": "snap-1"}})
    lied = replace(undoing(forward), late_inputs=b'{"thing":"other"}')
    assert code(await carried_out(agent, lied)) == "LATE_INPUT_INVALID"
    captured = replace(undoing(forward, number=2), captured=b'{"thing":"other"}')
    await carried_out(agent, captured)
    assert agent.executor.commands[-1] == ["take", "--", "snap-1"]


async def test_the_output_of_another_step_or_execution_is_not_taken(agent: Agent) -> None:
    foreign = Orchestrator(execution_id="exec_9", people=(ALICE,)).order(BODY)
    agent.executor.scripts.append(says(b'{"made":{"id":"snap-9"}}'))
    await carried_out(agent, foreign)
    await made(agent, {"made": {"id": "snap-1"}})
    stolen = SIGNED.order(BODY, kind="undo", undoes_attempt_id=foreign.attempt_id)
    assert code(await carried_out(agent, stolen)) == "UNDO_VALUE_MISSING"


async def test_an_undo_that_asks_for_another_value_than_the_step_kept_is_refused(
    agent: Agent,
) -> None:
    forward = await made(agent, {"made": {"id": "snap-1"}, "other": "snap-2"})
    call = {**UNDO, "inputs": {"thing": "${{ output.other }}"}}
    other = {**BODY, "undo": {"strategy": "call", "manual": "", "call": call}}
    assert code(await carried_out(agent, undoing(forward, other))) == "UNDO_VALUE_MISSING"


@pytest.mark.parametrize(
    ("inputs", "late"),
    [
        ({"thing": "snap-1"}, ["thing"]),
        ({"thing": "a ${{ output.made.id }}"}, ["thing"]),
        ({"thing": "${{ output.made.id }}${{ output.made.id }}"}, ["thing"]),
        ({"thing": "${{ output }}"}, ["thing"]),
        ({"thing": "${{ inputs.word }}"}, ["thing"]),
        ({"thing": "${{output.made.id}}"}, ["thing"]),
        ({"thing": "${{ output.made.id }}"}, ["thing", "other"]),
        ({"thing": ["${{ output.made.id }}"]}, ["thing"]),
        ({"thing": "${{ output.made.id }}"}, [["thing"]]),
        ({"thing": "${{ output.made.id }}"}, 3),
    ],
    ids=repr,
)
async def test_a_step_whose_undo_is_no_plain_path_never_starts(
    agent: Agent, inputs: Any, late: Any
) -> None:
    call = {**UNDO, "inputs": inputs, "late": late}
    body = {**BODY, "undo": {"strategy": "call", "manual": "", "call": call}}
    report = await carried_out(agent, SIGNED.order(body))
    assert (report.state, code(report)) == ("not_started", "MALFORMED")
    assert agent.executor.calls == []


async def test_text_that_only_looks_like_a_path_stays_text(agent: Agent) -> None:
    call = call_of(TAKE, inputs={"thing": "${{ output.made.id }}"})
    body = {**BODY, "undo": {"strategy": "call", "manual": "", "call": call}}
    forward = await made(agent, {"made": {"id": "snap-1"}}, body)
    assert code(await carried_out(agent, undoing(forward, body))) == "INPUT_INVALID"


async def test_a_precheck_takes_nothing_from_an_output(agent: Agent) -> None:
    reading = make_tool("read")
    precheck = call_of(reading, inputs={"word": "${{ output.x }}"}, late=["word"])
    body = {**BODY, "precheck": precheck}
    assert code(await carried_out(agent, SIGNED.order(body))) == "MALFORMED"


def test_the_journal_brings_the_values_back() -> None:
    from opsconductor.agent.report import Report

    entry = Entry(
        Report("a", "completed"), read_only=False, undo_paths='{"a":"b"}', undo_values='{"a":1}'
    )
    assert Entry.from_json(entry.to_json()) == entry
    assert "undo_paths" not in Entry(Report("a", "completed"), read_only=False).to_json()


@pytest.mark.parametrize(
    ("inputs", "paths"),
    [
        ({"a": "${{ output.x }}", "b": "${{ inputs.y }}", "c": 3}, {"a": "${{ output.x }}"}),
        ({"a": "${{output.list[0].id}}"}, {"a": "${{ output.list[0].id }}"}),
        ({"a": "$${{ output.x }}"}, {}),
    ],
)
def test_paths_into_the_output_are_told_from_other_text(inputs: Any, paths: Any) -> None:
    assert output_paths(inputs) == paths


@pytest.mark.parametrize(
    "value",
    ["${{ output }}", "x${{ output.x }}", "${{ output.x }}${{ inputs.y }}", ["${{ output.x }}"]],
)
def test_a_value_beside_a_path_is_an_error(value: Any) -> None:
    with pytest.raises(ExpressionError, match="one path into the output"):
        output_paths({"a": value})
