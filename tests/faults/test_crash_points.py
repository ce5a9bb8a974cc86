"""kill -9 at every named crash point loses nothing and repeats nothing."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from helpers import ledger
from helpers.source_tree import ROOT
from helpers.stack import ENDED, Stack, failpoint, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORWARD = ["one", "two", "three"]

ORCHESTRATOR = [
    *("submit.before_commit", "submit.after_commit_before_reply"),
    *("approve.after_verify", "approve.after_commit", "place.mid:1", "place.mid:3"),
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

AFTER_EFFECTS = [
    *("exit.before_append:2", "exit.after_append_before_report:2"),
    *("report.before_send:2", "forget.mid:3"),
]
"""Where an agent dies with the end of its command on its disk: the plan completes by itself."""

IN_FLIGHT = {"executing.after_fsync_before_spawn:2": False}
"""Where an agent dies with a change in flight, and whether the change had happened."""

NOT_BEGUN = ["shim.after_lock:2", "shim.record.before_rename:2"]
"""Where a supervisor dies that has let nothing begin: the step failed, and did nothing."""

SUPERVISOR = {
    "shim.record.after_rename_before_release:2": False,
    "shim.after_fork_before_record:2": True,
    "shim.wait.before_exit_record:2": True,
}
"""Where a supervisor dies, and whether its command had begun."""

WHILE_RESOLVING = {"resolve.before_commit": False, "resolve.after_commit": True}
"""Where the orchestrator dies under a person's decision, and whether it was taken."""


def test_every_crash_point_of_the_product_is_tried() -> None:
    folders = ("orchestrator", "agents")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    known = set(
        re.findall(r'\bhit\("([a-z_.0-9]+)"\)', "".join(file.read_text() for file in files))
    )
    tried = {*ORCHESTRATOR, *AT_START, *BEFORE_EFFECTS, *AFTER_EFFECTS, *IN_FLIGHT}
    tried |= {*NOT_BEGUN, *SUPERVISOR, *WHILE_RESOLVING}
    # Below, in the journal's own tests, in test_adoption_crashes and in test_replicas.
    elsewhere = {"cancel.after_commit", "migrate.mid", "journal.rotate", "adopt.mid", "lease.take"}
    assert known - {setting.partition(":")[0] for setting in tried} == elsewhere


@pytest.mark.parametrize("setting", ORCHESTRATOR)
def test_the_orchestrator_dies_and_each_line_is_written_once(stack: Stack, setting: str) -> None:
    _up_with_orchestrator_armed(stack, setting)
    execution_id = _run_over_a_crash(stack, ledger.plan(stack.ledger, *FORWARD))
    assert stack.wait_for(execution_id)["status"] == "completed"
    assert ledger.lines(stack.ledger) == FORWARD


@pytest.mark.parametrize("setting", ["grant.after_commit_before_send:6", "store.after_commit:8"])
def test_the_orchestrator_dies_and_each_undo_runs_once(stack: Stack, setting: str) -> None:
    _up_with_orchestrator_armed(stack, setting)
    plan = ledger.plan(stack.ledger, "one", "two", fails="three", on_failure="rollback")
    execution_id = _run_over_a_crash(stack, plan)
    assert stack.wait_for(execution_id)["status"] == "rolled_back"
    assert ledger.lines(stack.ledger) == ["one", "two", "undo two", "undo one"]


@pytest.mark.parametrize("setting", AT_START)
def test_the_orchestrator_dies_while_it_starts_over_the_remains(stack: Stack, setting: str) -> None:
    stack.up()
    stack.opsctl("agents", "drain", "local")
    execution_id = stack.submit(ledger.plan(stack.ledger, *FORWARD))
    stack.kill_orchestrator()
    armed = stack.launch_orchestrator(f"{setting}:kill9")
    wait_until(lambda: armed.poll() is not None, "it has died at its crash point")
    assert armed.returncode == -9
    stack.start_orchestrator()
    assert stack.opsctl("agents", "drain", "local", "--undo").code == 0
    assert stack.wait_for(execution_id)["status"] == "completed"
    assert ledger.lines(stack.ledger) == FORWARD


@pytest.mark.parametrize("setting", [*BEFORE_EFFECTS, *AFTER_EFFECTS])
def test_the_agent_dies_beside_its_effects_and_the_plan_completes(
    stack: Stack, setting: str
) -> None:
    _up_with_agent_armed(stack, setting)
    execution_id = stack.submit(ledger.plan(stack.ledger, *FORWARD))
    wait_until(stack.agent_is_gone, "the agent has died at its crash point")
    stack.start_agent()
    assert stack.wait_for(execution_id)["status"] == "completed"
    assert ledger.lines(stack.ledger) == FORWARD


@pytest.mark.parametrize("setting", IN_FLIGHT)
def test_a_change_in_flight_is_unknown_and_a_person_says_what_became_of_it(
    stack: Stack, setting: str
) -> None:
    _up_with_agent_armed(stack, setting)
    execution_id = stack.submit(ledger.plan(stack.ledger, *FORWARD))
    wait_until(stack.agent_is_gone, "the agent has died at its crash point")
    stack.start_agent()
    _answer_for_two(stack, execution_id, happened=IN_FLIGHT[setting])


@pytest.mark.parametrize("setting", WHILE_RESOLVING)
def test_a_decision_counts_once_or_not_at_all(stack: Stack, setting: str) -> None:
    stack.start_orchestrator(_kill9(setting))
    stack.start_agent(_kill9("executing.after_fsync_before_spawn:2"))
    execution_id = stack.submit(ledger.plan(stack.ledger, *FORWARD))
    wait_until(stack.agent_is_gone, "the agent has died at its crash point")
    stack.start_agent()
    assert stack.wait_for(execution_id)["status"] == "attention_required"
    words = ("--as", "retry", "--reason", "it has written nothing")
    again = ("runs", "resolve", execution_id, "two", "--no-probe", *words)
    assert stack.opsctl(*again).code != 0
    wait_until(stack.orchestrator_is_gone, "the orchestrator has died at its crash point")
    stack.start_orchestrator()
    if not WHILE_RESOLVING[setting]:
        assert stack.wait_for(execution_id)["status"] == "attention_required"
        assert stack.opsctl(*again).code == 0
    assert stack.wait_for(execution_id, *ENDED)["status"] == "completed"
    assert ledger.lines(stack.ledger) == FORWARD


def test_a_store_whose_making_was_interrupted_is_made_at_the_next_start(tmp_path: Path) -> None:
    fresh = Stack(tmp_path, failpoint("migrate.mid:kill9"))
    try:
        first = fresh.opsctl("up", "--data-dir", str(fresh.data), "--detach")
        assert first.code != 0
        assert (fresh.data / "store.sqlite").exists()
        fresh.variables.clear()
        fresh.up()
        execution_id = fresh.submit(ledger.plan(fresh.ledger, *FORWARD))
        assert fresh.wait_for(execution_id)["status"] == "completed"
    finally:
        fresh.down()


@pytest.mark.parametrize("setting", NOT_BEGUN)
def test_a_supervisor_dies_before_its_command_began_and_the_step_says_that_nothing_was_done(
    stack: Stack, setting: str
) -> None:
    _up_with_agent_armed(stack, setting)
    execution_id = stack.submit(ledger.plan(stack.ledger, *FORWARD))
    result = stack.wait_for(execution_id)
    assert result["status"] == "failed"
    assert [step["status"] for step in result["step_results"]][:2] == ["completed", "failed"]
    assert ledger.lines(stack.ledger) == ["one"]


@pytest.mark.parametrize("setting", SUPERVISOR)
def test_a_supervisor_dies_and_a_person_says_what_became_of_its_command(
    stack: Stack, setting: str
) -> None:
    _up_with_agent_armed(stack, setting)
    execution_id = stack.submit(ledger.plan(stack.ledger, *FORWARD))
    _answer_for_two(stack, execution_id, happened=SUPERVISOR[setting])


def _answer_for_two(stack: Stack, execution_id: str, *, happened: bool) -> None:
    """Has a person look at the ledger and say what became of the second step."""
    result = stack.wait_for(execution_id)
    assert result["status"] == "attention_required"
    assert [step["status"] for step in result["step_results"]][:2] == ["completed", "unknown"]
    if happened:
        wait_until(lambda: "two" in ledger.lines(stack.ledger), "the command has done its work")
    assert ("two" in ledger.lines(stack.ledger)) is happened
    outcome = "completed" if happened else "retry"
    words = ("--as", outcome, "--reason", "looked at the ledger")
    answer = stack.opsctl("runs", "resolve", execution_id, "two", *words)
    assert answer.code == 0, answer.err
    assert stack.wait_for(execution_id, *ENDED)["status"] == "completed"
    assert ledger.lines(stack.ledger) == FORWARD


def test_an_agent_that_dies_during_an_undo_leaves_it_to_a_person(stack: Stack) -> None:
    _up_with_agent_armed(stack, "executing.after_fsync_before_spawn:4")
    plan = ledger.plan(stack.ledger, "one", "two", fails="three", on_failure="rollback")
    execution_id = stack.submit(plan)
    wait_until(stack.agent_is_gone, "the agent has died at its crash point")
    stack.start_agent()
    assert stack.wait_for(execution_id)["status"] in ("attention_required", "rollback_failed")
    assert max(Counter(ledger.lines(stack.ledger)).values()) == 1


def test_the_orchestrator_dies_as_a_cancel_is_sent_and_it_is_still_cancelled(
    stack: Stack,
) -> None:
    _up_with_orchestrator_armed(stack, "cancel.after_commit")
    argv = ["sh", "-c", f"echo started > {stack.ledger}; sleep 600"]
    step = {"id": "long", "tool": "run_command", "inputs": {"argv": argv}, "undo": "none"}
    execution_id = stack.submit({"name": "long", "steps": [step]})
    wait_until(lambda: ledger.lines(stack.ledger), "the step runs")
    stack.opsctl("runs", "cancel", execution_id)
    wait_until(stack.orchestrator_is_gone, "the orchestrator has died at its crash point")
    stack.start_orchestrator()
    assert stack.wait_for(execution_id)["status"] == "cancelled"


def test_an_orchestrator_killed_while_a_person_is_waited_for_still_waits(stack: Stack) -> None:
    stack.up()
    plan = stack.plan(ledger.plan(stack.ledger, *FORWARD))
    waiting = stack.opsctl("run", "-f", plan, "-o", "json")
    assert waiting.code == 8
    execution_id = waiting.json["execution_id"]
    stack.kill_orchestrator()
    stack.start_orchestrator()
    assert stack.status(execution_id) == "approval_required"
    (approval_id,) = stack.json("runs", "get", execution_id)["pending_approval_ids"]
    assert stack.opsctl("approvals", "approve", approval_id, "--yes").code == 0
    assert stack.wait_for(execution_id)["status"] == "completed"
    assert ledger.lines(stack.ledger) == FORWARD


def test_an_orchestrator_killed_while_a_retry_is_waited_for_tries_again(stack: Stack) -> None:
    stack.up()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    retry = {"max_attempts": 20, "backoff": "fixed", "delay": "1s"}
    url = f"http://127.0.0.1:{port}/"
    step = {"id": "ask", "tool": "http_check", "inputs": {"url": url}, "retry": retry}
    execution_id = stack.submit({"name": "patient", "steps": [step]})
    wait_until(lambda: _attempts(stack, execution_id) >= 1, "it has failed once")
    stack.kill_orchestrator()
    with _web_server(port):
        stack.start_orchestrator()
        result = stack.wait_for(execution_id)
    assert result["status"] == "completed"
    assert result["step_results"][0]["attempts"] >= 2


def _kill9(setting: str) -> str:
    name, _, nth = setting.partition(":")
    return f"{name}:kill9:{nth or 1}"


def _up_with_orchestrator_armed(stack: Stack, setting: str) -> None:
    """Starts a stack whose orchestrator dies at a point, counted from when the agent is there."""
    stack.start_orchestrator(_kill9(setting))
    stack.start_agent()
    wait_until(
        lambda: stack.orchestrator_is_gone() or stack.agent_state("local") == "online",
        "the agent is connected",
    )


def _up_with_agent_armed(stack: Stack, setting: str) -> None:
    stack.start_orchestrator()
    stack.start_agent(_kill9(setting))


def _run_over_a_crash(stack: Stack, plan: dict[str, object]) -> str:
    """Submits to an orchestrator that dies, starts it again, and repeats the lost call."""
    words = ("run", "-f", stack.plan(plan), "--yes", "--detach", "-o", "json")
    repeatable = (*words, "--request-id", "the one")
    # Meanwhile in a thread: opsctl itself may wait for the orchestrator to come back.
    with ThreadPoolExecutor(1) as caller:
        first = caller.submit(stack.opsctl, *repeatable)
        wait_until(stack.orchestrator_is_gone, "the orchestrator has died at its crash point")
        stack.start_orchestrator()
        answer = first.result()
    again = stack.opsctl(*repeatable)
    assert again.code == 0, again.err + stack.logs()
    execution_id = str(again.json["execution_id"])
    if answer.code == 0:
        assert answer.json["execution_id"] == execution_id
    return execution_id


def _attempts(stack: Stack, execution_id: str) -> int:
    """Returns how many attempts have ended."""
    with stack.client() as client:
        step = client.get(execution_id).steps[0]
    return sum(attempt.HasField("end_time") for attempt in step.attempts)


@contextlib.contextmanager
def _web_server(port: int) -> Iterator[None]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", port), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()
