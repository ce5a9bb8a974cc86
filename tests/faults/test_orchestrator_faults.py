"""The orchestrator's side of the fault table, with real processes: nothing lost, nothing twice."""

from __future__ import annotations

import shutil
import signal
import sqlite3

from helpers import ledger
from helpers.stack import Stack, wait_until

TRIO = ("", "-wal", "-shm")
LINES = ["one", "two", "three"]


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
    execution_id = stack.submit(ledger.plan(stack.ledger, *LINES))
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
    assert ledger.lines(stack.ledger) == LINES
    # And work goes on, also for a restarted agent: it belongs to the new incarnation.
    stack.kill_agent()
    stack.up()
    assert stack.wait_for(stack.submit(ledger.plan(stack.ledger, "four")))["status"] == "completed"
    assert ledger.lines(stack.ledger) == [*LINES, "four"]


def test_a_silent_change_of_the_store_is_refused_by_the_agent(stack: Stack) -> None:
    stack.up()
    assert stack.wait_for(stack.submit(ledger.plan(stack.ledger, "one")))["status"] == "completed"
    stack.kill_orchestrator()
    with sqlite3.connect(stack.data / "store.sqlite") as database:
        database.execute("UPDATE meta SET value = 'another' WHERE key = 'incarnation'")
    database.close()
    stack.start_orchestrator()
    execution_id = stack.submit(ledger.plan(stack.ledger, "two"))
    wait_until(
        lambda: (
            "SAFE MODE" in stack.opsctl("agents", "list").err
            or "SAFE MODE" in stack.opsctl("agents", "list").out
        ),
        "the agent's own memory tells the orchestrator",
    )
    assert stack.status(execution_id) == "queued"
    assert ledger.lines(stack.ledger) == ["one"]


def test_a_copied_agent_is_kept_out_with_the_original_until_an_operator_releases_it(
    stack: Stack,
) -> None:
    stack.up()
    stack.join("edge", "dmz")
    original, copy = (stack.folder / f"agent-{name}" for name in ("edge", "copy"))
    stack.agents["edge"].send_signal(signal.SIGSTOP)
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("*.sock"))
    stack.run_agent("copy")
    wait_until(lambda: stack.agent_state("edge") == "online", "the copy is connected")
    stack.agents["edge"].send_signal(signal.SIGCONT)
    wait_until(lambda: stack.agent_state("edge") == "quarantined", "the clone is recognised")
    assert "it was copied" in stack.opsctl("agents", "get", "edge").out
    logs = [folder.with_suffix(".log") for folder in (original, copy)]
    wait_until(lambda: any("DUPLICATE_AGENT" in log.read_text() for log in logs), "it is told")
    for name in ("edge", "copy"):
        stack.agents[name].terminate()
        assert stack.agents[name].wait(20) == 0
    assert stack.agent_state("edge") == "quarantined"
    assert stack.opsctl("agents", "release", "edge").code == 0
    # Left alone it would have come back within two minutes.
    stack.run_agent("edge")
    wait_until(lambda: stack.agent_state("edge") == "online", "it is let in again")


def test_an_agent_without_its_journal_is_kept_out_and_its_change_is_unknown(stack: Stack) -> None:
    stack.up()
    argv = ["sh", "-c", f"echo started > {stack.ledger}; sleep 30"]
    step = {"id": "long", "tool": "run_command", "inputs": {"argv": argv}, "undo": "none"}
    execution_id = stack.submit({"name": "long", "steps": [step]})
    wait_until(lambda: stack.ledger.exists(), "the change has begun")
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
    # Left alone it would have come back within two minutes.
    stack.kill_agent()
    stack.start_agent()
    wait_until(lambda: stack.agent_state("local") == "online", "the agent is let in again")


def test_a_change_of_an_agent_that_was_destroyed_is_unknown_once_it_is_retired(
    stack: Stack,
) -> None:
    stack.up()
    argv = ["sh", "-c", f"echo started > {stack.ledger}; sleep 30"]
    step = {"id": "long", "tool": "run_command", "inputs": {"argv": argv}, "undo": "none"}
    execution_id = stack.submit({"name": "long", "steps": [step]})
    wait_until(lambda: stack.ledger.exists(), "the change has begun")
    refused = stack.opsctl("agents", "retire", "local", "--reason", "out of fashion")
    assert refused.code != 0
    assert "is connected" in refused.err
    stack.kill_agent()
    stack.embedded.agent_directory.rename(stack.folder / "away")
    wait_until(lambda: stack.agent_state("local") == "offline", "its end is noticed")
    retired = stack.opsctl("agents", "retire", "local", "--reason", "its host burnt")
    assert retired.code == 0, retired.err
    assert f"step long of {execution_id} is unknown" in retired.err
    result = stack.wait_for(execution_id)
    assert result["status"] == "attention_required"
    assert result["step_results"][0]["error"]["code"] == "AGENT_RETIRED"
    resolved = stack.opsctl(
        *("runs", "resolve", execution_id, "long", "--as", "failed", "--reason", "it is not there")
    )
    assert resolved.code == 0, resolved.err
    assert stack.wait_for(execution_id)["status"] == "failed"
