"""kill -9 in the middle of a command: one on this host goes on, one over SSH leaves a question."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from helpers import ledger
from helpers.sshd import INSTALL_HINT, SSHD, openssh_server
from helpers.stack import Stack, wait_until
from opsconductor.agent.executors.local.run_folder import RunFolder, RunFolders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 3_000_000
# Tells the ledger its start and its end, waits in between, and prints the same bytes each time.
PROGRAM = """
import os, random, sys, time
def tell(word):
    f = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(f, word.encode() + b"\\n"); os.fsync(f)
tell("start")
data = random.Random(7).randbytes(SIZE)
for at in range(0, SIZE // 2, 50_000):
    os.write(1, data[at:at + 50_000]); time.sleep(0.005)
tell("half")
while not os.path.exists(sys.argv[2]):
    time.sleep(0.02)
sys.stdout.buffer.write(data[SIZE // 2:])
sys.stdout.flush()
tell("end")
""".replace("SIZE", str(SIZE))


@pytest.fixture(autouse=True)
def _nothing_left_waiting(stack: Stack) -> Iterator[None]:
    yield
    (stack.folder / "go").touch()


def _begin(stack: Stack, **fields: object) -> str:
    program = stack.folder / "program.py"
    program.write_text(PROGRAM)
    argv = [sys.executable, "-I", "-S", str(program), str(stack.ledger), str(stack.folder / "go")]
    step = {"id": "long", "tool": "run_command", "inputs": {"argv": argv}, "undo": "none", **fields}
    return stack.submit({"name": "long", "steps": [step]})


def _reached(stack: Stack, word: str) -> None:
    wait_until(lambda: word in ledger.lines(stack.ledger), f"the command has told {word}")


def _run(stack: Stack) -> RunFolder:
    runs = RunFolders(stack.embedded.agent_directory / "runs")
    (attempt_id,) = runs
    return runs.of(attempt_id)


def _completes_exactly(stack: Stack, execution_id: str) -> None:
    assert stack.wait_for(execution_id)["status"] == "completed"
    assert ledger.lines(stack.ledger) == ["start", "half", "end"]
    tail = stack.opsctl("runs", "tail", execution_id, "--raw")
    assert tail.stdout == random.Random(7).randbytes(SIZE)


@pytest.mark.parametrize("word", ["start", "half"])
def test_an_agent_killed_in_the_middle_of_a_command_adopts_it(stack: Stack, word: str) -> None:
    stack.up()
    execution_id = _begin(stack)
    _reached(stack, word)
    stack.kill_agent()
    stack.start_agent()
    (stack.folder / "go").touch()
    _completes_exactly(stack, execution_id)


def test_an_agent_that_comes_back_after_the_end_tells_it(stack: Stack) -> None:
    stack.up()
    execution_id = _begin(stack)
    _reached(stack, "half")
    stack.kill_agent()
    (stack.folder / "go").touch()
    _reached(stack, "end")
    stack.up()
    _completes_exactly(stack, execution_id)
    runs = RunFolders(stack.embedded.agent_directory / "runs")
    wait_until(lambda: not list(runs), "the run's folder is gone")


def test_an_agent_killed_while_it_adopts_adopts_again(stack: Stack) -> None:
    stack.up()
    execution_id = _begin(stack)
    _reached(stack, "half")
    stack.kill_agent()
    stack.start_agent("adopt.mid:kill9")
    wait_until(stack.agent_is_gone, "the agent has died at its crash point")
    stack.up()
    (stack.folder / "go").touch()
    _completes_exactly(stack, execution_id)


def test_an_agent_that_is_stopped_politely_leaves_the_command_to_the_next(stack: Stack) -> None:
    stack.variables["OPSCONDUCTOR_AGENT_DRAIN_GRACE"] = "1s"
    stack.up()
    execution_id = _begin(stack)
    _reached(stack, "half")
    pid = stack.embedded.agent.find()
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    wait_until(stack.agent_is_gone, "the agent has stopped")
    assert "the agent's next start takes it up" in stack.logs()
    assert _run(stack).is_supervised()
    stack.up()
    (stack.folder / "go").touch()
    _completes_exactly(stack, execution_id)


def test_agent_and_supervisor_killed_leave_a_question(stack: Stack) -> None:
    stack.up()
    execution_id = _begin(stack)
    _reached(stack, "half")
    stack.kill_agent()
    pids = _run(stack).pids
    assert pids is not None
    os.kill(pids.supervisor.pid, signal.SIGKILL)
    stack.start_agent()
    result = stack.wait_for(execution_id)
    assert (result["status"], _states(result)) == ("attention_required", ["unknown"])
    assert ledger.lines(stack.ledger) == ["start", "half"]


def test_an_adopted_command_can_be_cancelled(stack: Stack) -> None:
    stack.up()
    execution_id = _begin(stack)
    _reached(stack, "half")
    stack.kill_agent()
    run = _run(stack)
    stack.up()
    stack.opsctl("runs", "cancel", execution_id)
    assert stack.wait_for(execution_id)["status"] == "cancelled"
    wait_until(lambda: not run.is_supervised(), "its supervisor is gone")
    assert ledger.lines(stack.ledger) == ["start", "half"]


@pytest.mark.skipif(not SSHD, reason=INSTALL_HINT)
def test_an_agent_killed_in_the_middle_of_a_command_over_ssh_leaves_a_question(
    stack: Stack, tmp_path: Path
) -> None:
    stack.up()
    with openssh_server(tmp_path / "sshd") as server:
        login = (
            f"tester:\n  kind: ssh\n  username: {server.username}\n"
            f"  private_key_file: {server.client_key}\n"
        )
        file = stack.embedded.agent_directory / "credentials.yaml"
        file.write_text(login)
        file.chmod(0o600)
        asset = {
            "name": "web-01",
            "type": "linux_server",
            "address": server.address,
            "port": server.port,
            "connection": "ssh",
            "credential": "tester",
            "host_keys": [server.host_key],
        }
        document = tmp_path / "assets.json"
        document.write_text(json.dumps({"assets": [asset]}))
        answer = stack.opsctl("assets", "import", str(document))
        assert answer.code == 0, answer.err
        execution_id = _begin(stack, target="web-01")
        _reached(stack, "half")
        stack.kill_agent()
        stack.up()
        result = stack.wait_for(execution_id)
        assert (result["status"], _states(result)) == ("attention_required", ["unknown"])
        assert ledger.lines(stack.ledger) == ["start", "half"]


def _states(result: dict[str, list[dict[str, str]]]) -> list[str]:
    return [step["status"] for step in result["step_results"]]
