"""The orchestrator's side of the fault table, with real processes: nothing lost, nothing twice."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from typing import TYPE_CHECKING

import pytest

from helpers import ledger
from helpers.embedded_context import SCRIPTS
from helpers.stack import Stack, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRIO = ("", "-wal", "-shm")
LINES = ["one", "two", "three"]

PATIENCE = 200.0  # seconds; an agent that was refused comes back within two minutes


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path)
    try:
        yield made
    finally:
        made.down()


def _file(stack: Stack) -> Path:
    return stack.folder / "ledger"


def _submit(stack: Stack, *lines: str) -> str:
    plan = stack.plan(ledger.plan(_file(stack), *lines))
    answer = stack.opsctl("run", "-f", plan, "--yes", "--detach", "-o", "json")
    assert answer.code == 0, answer.out + answer.err
    return str(answer.json["execution_id"])


def _copy(stack: Stack, source: str, to: str) -> None:
    """Copies the store's file and what belongs to it, or what there is of it."""
    for suffix in TRIO:
        target = stack.data / f"{to}{suffix}"
        target.unlink(missing_ok=True)
        if (stack.data / f"{source}{suffix}").exists():
            shutil.copy(stack.data / f"{source}{suffix}", target)


def test_a_restored_store_starts_nothing_again_that_an_agent_has_done(stack: Stack) -> None:
    stack.up()
    stack.kill_agent()
    execution_id = _submit(stack, *LINES)
    stack.kill_orchestrator()
    _copy(stack, "store.sqlite", "backup.sqlite")
    stack.up()
    assert stack.wait_for(execution_id)["status"] == "completed"
    stack.kill_orchestrator()
    _copy(stack, "backup.sqlite", "store.sqlite")
    stack.start_orchestrator()

    def seen() -> bool:
        listed = stack.opsctl("agents", "list")
        return "SAFE MODE" in listed.out + listed.err

    wait_until(seen, "the agent has shown that the store went back")
    (first, *_) = stack.json("runs", "get", execution_id)["step_results"]
    assert first["status"] == "queued"
    shown = stack.opsctl("runs", "get", execution_id)
    assert "confirm-restore" in shown.out
    checked = stack.opsctl("doctor")
    assert (checked.code, "SAFE MODE" in checked.out) == (1, True)
    again = stack.opsctl("agents", "confirm-restore", "--reason", "the disk died")
    assert again.code == 0, again.err
    result = stack.wait_for(execution_id)
    assert result["status"] == "completed"
    assert ledger.lines(_file(stack)) == LINES
    # And work goes on, also for a restarted agent: it belongs to the new incarnation.
    stack.kill_agent()
    stack.up()
    assert stack.wait_for(_submit(stack, "four"))["status"] == "completed"
    assert ledger.lines(_file(stack)) == [*LINES, "four"]


def test_a_silent_change_of_the_store_is_refused_by_the_agent(stack: Stack) -> None:
    stack.up()
    assert stack.wait_for(_submit(stack, "one"))["status"] == "completed"
    stack.kill_orchestrator()
    with sqlite3.connect(stack.data / "store.sqlite") as database:
        database.execute("UPDATE meta SET value = 'another' WHERE key = 'incarnation'")
    database.close()
    stack.start_orchestrator()
    execution_id = _submit(stack, "two")
    wait_until(
        lambda: (
            "SAFE MODE" in stack.opsctl("agents", "list").err
            or "SAFE MODE" in stack.opsctl("agents", "list").out
        ),
        "the agent's own memory tells the orchestrator",
    )
    assert stack.status(execution_id) == "queued"
    assert ledger.lines(_file(stack)) == ["one"]


@pytest.mark.timeout(300)
def test_a_copied_agent_is_kept_out_with_the_original_until_an_operator_releases_it(
    stack: Stack,
) -> None:
    stack.up()
    stack.join("edge", "dmz")
    original = stack.folder / "agent-edge"
    copy = stack.folder / "agent-copy"
    stack.agents["edge"].send_signal(signal.SIGSTOP)
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("*.sock"))
    run = [str(SCRIPTS / "opsconductor-agent"), "run", "--data-dir", str(copy)]
    clone = stack._popen(run, "agent-copy")
    stack.agents["copy"] = clone
    wait_until(lambda: stack.agent_state("edge") == "online", "the copy is connected")
    stack.agents["edge"].send_signal(signal.SIGCONT)
    wait_until(lambda: stack.agent_state("edge") == "quarantined", "the clone is recognised")
    shown = stack.opsctl("agents", "get", "edge")
    assert "it was copied" in shown.out
    clone.kill()
    clone.wait(10)
    assert stack.opsctl("agents", "release", "edge").code == 0
    wait_until(lambda: stack.agent_state("edge") == "online", "it is let in again", PATIENCE)


@pytest.mark.timeout(300)
def test_an_agent_without_its_journal_is_kept_out_and_its_change_is_unknown(stack: Stack) -> None:
    stack.up()
    argv = ["sh", "-c", f"echo started > {_file(stack)}; sleep 30"]
    step = {"id": "long", "tool": "run_command", "inputs": {"argv": argv}, "undo": "none"}
    plan = stack.plan({"name": "long", "steps": [step]})
    answer = stack.opsctl("run", "-f", plan, "--yes", "--detach", "-o", "json")
    execution_id = str(answer.json["execution_id"])
    wait_until(lambda: _file(stack).exists(), "the change has begun")
    stack.kill_agent()
    (stack.embedded.agent_directory / "journal").unlink()
    stack.start_agent()
    wait_until(lambda: stack.agent_state("local") == "quarantined", "the agent is kept out")
    result = stack.wait_for(execution_id)
    assert result["status"] == "attention_required"
    assert result["step_results"][0]["status"] == "unknown"
    assert "JOURNAL_LOST" in stack.opsctl("agents", "get", "local").out
    stack.kill_orchestrator()
    stack.start_orchestrator()
    assert stack.agent_state("local") == "quarantined"
    assert stack.opsctl("agents", "release", "local").code == 0
    wait_until(
        lambda: stack.agent_state("local") == "online", "the agent is let in again", PATIENCE
    )
