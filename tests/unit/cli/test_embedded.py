from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from opsconductor.cli import embedded as embedded_module
from opsconductor.cli.embedded import Embedded, Options
from opsconductor.cli.failure import Failed, UsageProblem
from opsconductor.cli.processes import BackgroundProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from helpers.opsctl import Opsctl


# Stands in for both servers: says that it is ready, then waits; TERM ends it unless told otherwise.
_SERVER = """
import json, os, signal, sys, time
arguments = sys.argv[1:]
if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("started with", *arguments, flush=True)
if os.environ.get("BROKEN"):
    sys.exit("the port is taken")
if "--ready-file" in arguments:
    port = arguments[arguments.index("--port") + 1]
    with open(arguments[arguments.index("--ready-file") + 1], "w") as ready:
        json.dump({"endpoint": f"127.0.0.1:{port}", "pid": os.getpid()}, ready)
else:
    print("endpoint", os.environ.get("OPSCONDUCTOR_AGENT_ENDPOINT"), flush=True)
time.sleep(600)
"""


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Embedded]:
    script = tmp_path / "server.py"
    script.write_text(textwrap.dedent(_SERVER))
    monkeypatch.setattr(
        embedded_module, "_python", lambda module, *words: [sys.executable, str(script), *words]
    )
    processes = []
    start = BackgroundProcess.start

    def remembered(self: BackgroundProcess, *arguments: Any) -> subprocess.Popen[bytes]:
        processes.append(start(self, *arguments))
        return processes[-1]

    monkeypatch.setattr(BackgroundProcess, "start", remembered)
    deployment = Embedded(tmp_path / "data")
    deployment.create()
    yield deployment
    for process in processes:
        process.kill()
        process.wait()


def test_an_orchestrator_is_started_once_and_its_endpoint_known(embedded: Embedded) -> None:
    assert embedded.start_orchestrator(Options(port=4711)) is True
    assert embedded.endpoint == "127.0.0.1:4711"
    pid = embedded.orchestrator.find()
    assert pid is not None
    assert embedded.start_orchestrator(Options(port=4712)) is False
    assert embedded.orchestrator.find() == pid


def test_the_directory_is_private_and_stands_in_the_arguments(embedded: Embedded) -> None:
    embedded.start_orchestrator(Options())
    assert embedded.directory.stat().st_mode & 0o777 == 0o700
    log = embedded.orchestrator.log_file.read_text()
    assert f"--data-dir {embedded.directory} " in log


def test_the_port_of_last_time_is_kept_after_kill_9(embedded: Embedded) -> None:
    embedded.start_orchestrator(Options())
    before, pid = embedded.endpoint, embedded.orchestrator.find()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    embedded.orchestrator._gone_within(10)
    assert embedded.orchestrator.find() is None
    assert embedded.start_orchestrator(Options()) is True
    assert embedded.endpoint == before
    assert embedded.orchestrator.find() != pid


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(Failed, match=r"(?s)exit code 1.*the port is taken"):
        embedded.start_orchestrator(Options())


def test_an_agent_joins_first_and_runs_ever_after(embedded: Embedded) -> None:
    embedded.start_orchestrator(Options())
    embedded.start_agent(Options())
    _wait_for_line(embedded.agent.log_file, "endpoint")
    log = embedded.agent.log_file.read_text()
    assert f"join --endpoint {embedded.endpoint}" in log
    assert f"endpoint {embedded.endpoint}" in log
    embedded.agent.stop(10)
    embedded.agent_directory.mkdir()
    (embedded.agent_directory / "agent.yaml").write_text("{}")
    embedded.agent.log_file.unlink()
    embedded.start_agent(Options())
    _wait_for_line(embedded.agent.log_file, "endpoint")
    words = f"started with run --data-dir {embedded.agent_directory}"
    assert words in embedded.agent.log_file.read_text()


def test_stopping_says_what_happened_to_each(embedded: Embedded) -> None:
    embedded.start_orchestrator(Options())
    assert embedded.stop() == {"agent": "not running", "orchestrator": "stopped"}
    assert embedded.stop() == {"agent": "not running", "orchestrator": "not running"}
    assert embedded.ended() is embedded.orchestrator


def test_a_process_that_does_not_end_is_killed(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUBBORN", "1")
    embedded.start_orchestrator(Options())
    assert embedded.orchestrator.stop(0.2) == "killed"
    assert embedded.orchestrator.find() is None


def _process(folder: Path) -> BackgroundProcess:
    return BackgroundProcess("x", folder / "x.pid", folder / "x.log")


def test_a_pid_that_somebody_else_has_now_is_not_ours(tmp_path: Path) -> None:
    process = _process(tmp_path)
    with process.start(["sleep", "600"]) as ended:
        ended.kill()
    _, began = process.pid_file.read_text().split()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        process.pid_file.write_text(f"{stranger.pid} {int(began) - 1}\n")
        assert process.find() is None
        assert process.stop(1) == "not running"
        assert stranger.poll() is None
        stranger.communicate(b"\n")


@pytest.mark.parametrize("content", ["", "none", "-1", "999999999", "999999999 1", "1 2 3"])
def test_a_broken_pid_file_means_not_running(tmp_path: Path, content: str) -> None:
    process = _process(tmp_path)
    process.pid_file.write_text(content)
    assert process.find() is None


def test_a_process_is_found_also_while_it_has_no_arguments_yet(tmp_path: Path) -> None:
    process = _process(tmp_path)
    # What a process shows while it is being started: neither our words nor any.
    with process.start(["sh", "-c", "exec sleep 600"]) as started:
        assert process.find() == started.pid
        started.kill()
        started.wait()
        assert process.find() is None


_HOLDER = """
import fcntl, sys, threading, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
for _ in range(30):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print("started and held", flush=True)
time.sleep(600)
"""


def test_a_killed_process_is_there_until_it_has_let_go_of_its_locks(tmp_path: Path) -> None:
    process = _process(tmp_path)
    lock = tmp_path / "lock"
    for _ in range(20):
        process.log_file.unlink(missing_ok=True)
        with process.start([sys.executable, "-c", _HOLDER, str(lock)]) as holder:
            _wait_for_line(process.log_file, "held")
            holder.kill()
            while process.find() is not None:
                pass
            with lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_whoever_waits_for_a_process_of_another_is_told_when_it_ends(embedded: Embedded) -> None:
    embedded.start_orchestrator(Options())
    with embedded.agent.start(["false"]):
        pass
    with pytest.raises(Failed, match="the agent has ended"):
        embedded.wait(embedded.agent, None, lambda: False)


def test_a_missing_server_distribution_is_said_clearly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_module, "part_is_installed", lambda name: name != "orchestrator")
    deployment = Embedded(tmp_path / "data")
    deployment.create()
    with pytest.raises(UsageProblem, match="the orchestrator is not installed"):
        deployment.start_orchestrator(Options())


def test_two_runs_of_up_take_turns(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_module, "START_SECONDS", 0.05)
    with embedded.locked(), pytest.raises(Failed, match="another opsctl"), embedded.locked():
        pass


def test_down_of_a_directory_that_is_not_there_is_a_usage_error(
    opsctl: Opsctl, tmp_path: Path
) -> None:
    result = opsctl("down", "--data-dir", str(tmp_path / "nothing"))
    assert result.exit_code == 2
    assert "there is no directory" in result.stderr


def test_without_a_port_a_free_one_is_chosen(embedded: Embedded) -> None:
    port = embedded._port(None)
    with socket.create_server(("127.0.0.1", port)):
        pass


def _wait_for_line(file: Path, text: str) -> None:
    import time

    deadline = time.monotonic() + 20
    while not (file.exists() and text in file.read_text().partition("started")[2]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
