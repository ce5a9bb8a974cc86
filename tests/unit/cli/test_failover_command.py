"""opsctl with several endpoints goes on at another one, and says so once."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from helpers.scripted_orchestrator import (
    EXECUTION,
    RUNNING,
    Script,
    ScriptedOrchestrator,
)
from helpers.stack import wait_until
from opsconductor.v1 import execution_service_pb2 as executions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from helpers.opsctl import Opsctl

NOTE = "lost the orchestrator at {}; going on at {}"


@pytest.fixture
def second(script: Script) -> Iterator[ScriptedOrchestrator]:
    # The same story, told by another process.
    server = ScriptedOrchestrator(replace(script, closing=threading.Event()))
    yield server
    server.close()


def killed_while_watched(server: ScriptedOrchestrator, script: Script) -> threading.Thread:
    """Kills a server as soon as somebody watches, then lets the execution end."""

    def kill() -> None:
        watched = executions.WatchRequest
        wait_until(lambda: any(isinstance(call, watched) for call in script.calls), "watched")
        server._server.stop(None).wait()
        script.approve()

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_run_goes_on_at_another_endpoint_and_tells_each_event_once(
    opsctl: Opsctl,
    script: Script,
    server: ScriptedOrchestrator,
    second: ScriptedOrchestrator,
    tmp_path: Path,
    form: str,
) -> None:
    opsctl.set_context(endpoints=[server.endpoint, second.endpoint])
    script.happened(RUNNING)
    script.hold = second.script.hold = True
    plan = tmp_path / "plan.json"
    plan.write_text('{"steps": []}')
    thread = killed_while_watched(server, script)
    result = opsctl("run", "-f", str(plan), "-o", form)
    thread.join()
    assert result.exit_code == 0, result.output
    note = NOTE.format(server.endpoint, second.endpoint)
    if form == "json":
        assert json.loads(result.stdout)["execution_id"] == EXECUTION
        assert note not in result.output
        return
    assert result.stderr.count("lost the orchestrator") == result.stderr.count(note) == 1
    assert result.stdout.count("one: runs on local") == 1


def test_the_first_endpoint_may_be_dead(opsctl: Opsctl, server: ScriptedOrchestrator) -> None:
    opsctl.set_context(endpoints=["127.0.0.1:1", server.endpoint], endpoint=None)
    result = opsctl("runs", "tail", EXECUTION)
    assert result.exit_code == 0, result.output
    assert "lost" not in result.output


def test_the_environment_says_where_to_go(
    opsctl: Opsctl, server: ScriptedOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    opsctl.set_context(endpoint="127.0.0.1:1")
    assert opsctl("runs", "list").exit_code == 4
    monkeypatch.setenv("OPSCONDUCTOR_ENDPOINTS", f"127.0.0.1:1,{server.endpoint}")
    assert opsctl("runs", "list").exit_code == 0


def test_doctor_looks_at_every_endpoint(opsctl: Opsctl, server: ScriptedOrchestrator) -> None:
    opsctl.set_context(endpoints=[server.endpoint, "127.0.0.1:1"])
    checks = json.loads(opsctl("doctor", "-o", "json").stdout)["checks"]
    states = [check["state"] for check in checks if check["detail"].startswith("127.0.0.1:")]
    assert states == ["ok", "absent"]


@pytest.fixture
def plan(tmp_path: Path) -> str:
    file = tmp_path / "plan.json"
    file.write_text('{"steps": []}')
    return str(file)


def test_a_submission_without_an_answer_names_its_key_and_the_command_that_repeats_it(
    opsctl: Opsctl, script: Script, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.lose_answers = True
    monkeypatch.setattr(sys, "argv", ["/x/bin/opsctl", "run", "-f", plan, "-o", "json"])
    result = opsctl("run", "-f", plan, "-o", "json")
    key = script.submitted[0].request_id
    assert result.exit_code == 4
    assert f"under request id {key}" in result.stderr
    assert f"opsctl run --request-id {key} -f {plan} -o json" in result.stderr
    monkeypatch.setattr(sys, "argv", ["opsctl", "run", "-f", plan, "--request-id=mine"])
    result = opsctl("run", "-f", plan, "--request-id=mine")
    assert f"  opsctl run -f {plan} --request-id=mine\n" in result.stderr


def test_a_submission_that_never_left_says_nothing_of_repeating(opsctl: Opsctl, plan: str) -> None:
    opsctl.set_context(endpoint="127.0.0.1:1")
    result = opsctl("run", "-f", plan)
    assert result.exit_code == 4
    assert "request id" not in result.stderr
