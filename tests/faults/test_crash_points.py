"""kill -9 at every named crash point loses nothing and repeats nothing."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from helpers import ledger
from helpers.source_tree import ROOT
from helpers.stack import ENDED, Stack, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORWARD = ["one", "two", "three"]

ORCHESTRATOR = [
    *("submit.before_commit", "submit.after_commit_before_reply"),
    *("approve.after_verify", "approve.after_commit"),
    *("grant.before_commit:1", "grant.before_commit:3", "grant.before_commit:5"),
    *("grant.after_commit_before_send:2", "grant.after_commit_before_send:3"),
    *("grant.after_commit_before_send:4",),
    *("event.recv_before_commit:1", "event.recv_before_commit:3"),
    *("event.after_commit_before_ack:1", "event.after_commit_before_ack:3"),
    *("output.after_write_before_ack",),
    *("store.before_commit:4", "store.before_commit:7"),
    *("store.after_commit:5", "store.after_commit:7"),
]
"""Where the orchestrator dies while a plan is submitted, approved and run."""

AT_START = ["session.after_epoch_bump", "store.before_commit", "store.after_commit"]
"""Where it dies while it starts over the remains."""

BEFORE_EFFECTS = [
    *("hello.before_send", "assign.before_verify", "assign.before_verify:2"),
    *("executing.before_fsync:2",),
]
"""Where an agent dies with nothing in flight: the plan completes by itself."""

AFTER_EFFECTS = ["exit.after_append_before_report:2", "report.before_send:2", "forget.mid:1"]
"""Where an agent dies with the end of its attempt on its disk: the plan completes by itself."""

IN_FLIGHT = {
    "executing.after_fsync_before_spawn:2": False,
    "exit.before_append:2": True,
}
"""Where an agent dies with a change in flight, and whether the change had happened."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path)
    try:
        yield made
    finally:
        made.down()


def test_every_crash_point_of_the_product_is_tried() -> None:
    folders = ("orchestrator", "agents")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    known = set(re.findall(r'\bhit\("([a-z_.0-9]+)"\)', "".join(file.read_text() for file in files)))
    tried = {*ORCHESTRATOR, *AT_START, *BEFORE_EFFECTS, *AFTER_EFFECTS, *IN_FLIGHT}
    elsewhere = {"cancel.after_commit", "journal.rotate"}  # below, and the journal's own tests
    assert known - {setting.partition(":")[0] for setting in tried} == elsewhere


@pytest.mark.parametrize("setting", ORCHESTRATOR)
def test_the_orchestrator_dies_and_each_line_is_written_once(stack: Stack, setting: str) -> None:
    _up_with_orchestrator_armed(stack, setting)
    execution_id = _run_over_a_crash(stack, ledger.plan(_file(stack), *FORWARD))
    assert stack.wait_for(execution_id)["status"] == "completed"
    assert ledger.lines(_file(stack)) == FORWARD


@pytest.mark.parametrize("setting", ["grant.after_commit_before_send:6", "store.after_commit:11"])
def test_the_orchestrator_dies_and_each_undo_runs_once(stack: Stack, setting: str) -> None:
    _up_with_orchestrator_armed(stack, setting)
    plan = ledger.plan(_file(stack), "one", "two", fails="three", on_failure="rollback")
    execution_id = _run_over_a_crash(stack, plan)
    assert stack.wait_for(execution_id)["status"] == "rolled_back"
    assert ledger.lines(_file(stack)) == ["one", "two", "undo two", "undo one"]


@pytest.mark.parametrize("setting", AT_START)
def test_the_orchestrator_dies_while_it_starts_over_the_remains(stack: Stack, setting: str) -> None:
    stack.up()
    stack.opsctl("agents", "drain", "local")
    execution_id = _submit(stack, ledger.plan(_file(stack), *FORWARD))
    stack.kill_orchestrator()
    armed = stack.launch_orchestrator(f"{setting}:kill9")
    wait_until(lambda: armed.poll() is not None, "it has died at its crash point")
    assert armed.returncode == -9
    stack.up()
    assert stack.opsctl("agents", "drain", "local", "--undo").code == 0
    assert stack.wait_for(execution_id)["status"] == "completed"
    assert ledger.lines(_file(stack)) == FORWARD


@pytest.mark.parametrize("setting", [*BEFORE_EFFECTS, *AFTER_EFFECTS])
def test_the_agent_dies_beside_its_effects_and_the_plan_completes(
    stack: Stack, setting: str
) -> None:
    _up_with_agent_armed(stack, setting)
    execution_id = _submit(stack, ledger.plan(_file(stack), *FORWARD))
    wait_until(stack.agent_is_gone, "the agent has died at its crash point")
    stack.up()
    assert stack.wait_for(execution_id)["status"] == "completed"
    assert ledger.lines(_file(stack)) == FORWARD


@pytest.mark.parametrize("setting", IN_FLIGHT)
def test_a_change_in_flight_is_unknown_and_a_person_says_what_became_of_it(
    stack: Stack, setting: str
) -> None:
    _up_with_agent_armed(stack, setting)
    execution_id = _submit(stack, ledger.plan(_file(stack), *FORWARD))
    wait_until(stack.agent_is_gone, "the agent has died at its crash point")
    stack.up()
    result = stack.wait_for(execution_id)
    assert result["status"] == "attention_required"
    assert [step["status"] for step in result["step_results"]][:2] == ["completed", "unknown"]
    happened = "two" in ledger.lines(_file(stack))
    assert happened is IN_FLIGHT[setting]
    outcome = "completed" if happened else "retry"
    answer = stack.opsctl(
        *("runs", "resolve", execution_id, "two", "--as", outcome, "--reason", "looked at the ledger")
    )
    assert answer.code == 0, answer.err
    assert stack.wait_for(execution_id, *ENDED)["status"] == "completed"
    assert ledger.lines(_file(stack)) == FORWARD


def test_an_agent_that_dies_during_an_undo_leaves_it_to_a_person(stack: Stack) -> None:
    _up_with_agent_armed(stack, "exit.before_append:4")
    plan = ledger.plan(_file(stack), "one", "two", fails="three", on_failure="rollback")
    execution_id = _submit(stack, plan)
    wait_until(stack.agent_is_gone, "the agent has died at its crash point")
    stack.up()
    assert stack.wait_for(execution_id)["status"] in ("attention_required", "rollback_failed")
    assert max(Counter(ledger.lines(_file(stack))).values()) == 1


def _file(stack: Stack) -> Path:
    return stack.folder / "ledger"


def _kill9(setting: str) -> str:
    name, _, nth = setting.partition(":")
    return f"{name}:kill9:{nth or 1}"


def _up_with_orchestrator_armed(stack: Stack, setting: str) -> None:
    """Starts a stack whose orchestrator dies at a point, counted from when the agent is there."""
    stack.up()
    stack.kill_orchestrator()
    stack.start_orchestrator(_kill9(setting))
    wait_until(
        lambda: stack.orchestrator_is_gone() or stack.agent_state("local") == "online",
        "the agent is connected",
    )


def _up_with_agent_armed(stack: Stack, setting: str) -> None:
    stack.up()
    stack.kill_agent()
    stack.start_agent(_kill9(setting))


def _submit(stack: Stack, plan: dict[str, object]) -> str:
    words = ("run", "-f", stack.plan(plan), "--yes", "--detach", "-o", "json")
    answer = stack.opsctl(*words)
    assert answer.code == 0, answer.err + stack.logs()
    return str(answer.json["execution_id"])


def _run_over_a_crash(stack: Stack, plan: dict[str, object]) -> str:
    """Submits to an orchestrator that will die, starts it again; opsctl repeats what was lost."""
    import threading

    found: list[str] = []
    caller = threading.Thread(target=lambda: found.append(_submit(stack, plan)))
    caller.start()
    wait_until(stack.orchestrator_is_gone, "the orchestrator has died at its crash point")
    stack.up()
    caller.join(60)
    assert found, stack.logs()
    return found[0]
