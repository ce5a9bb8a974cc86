"""The agent as a process: joins over mTLS, survives being killed at its crash points."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.agent_process import RUN_COMMAND, AgentProcess, command, secured
from helpers.places import until
from opsconductor.agent.main import main
from opsconductor.orchestrator.pki import CertificateAuthority
from opsconductor.v1 import execution_service_pb2 as states

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from helpers.fake_orchestrator import Connection, FakeOrchestrator
    from opsconductor.agent.order import Order

STATE = states.AttemptState.Name


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.load_or_create(tmp_path_factory.mktemp("ca"), now=datetime.now(UTC))


@pytest.fixture
async def server(authority: CertificateAuthority) -> AsyncIterator[FakeOrchestrator]:
    async with secured(authority) as running:
        yield running


@pytest.fixture
async def agent(
    tmp_path: Path, authority: CertificateAuthority, server: FakeOrchestrator
) -> AsyncIterator[AgentProcess]:
    made = AgentProcess.new(tmp_path, authority, server)
    yield made
    await made.stop()


async def test_an_agent_joins_runs_a_command_and_stops_when_told(
    agent: AgentProcess, server: FakeOrchestrator
) -> None:
    process = await agent.join("--capacity", "3", "--label", "site=berlin", "--services", "a,b")
    connection = await server.connection()
    assert len(server.tokens) == 1
    hello = connection.hello
    assert (hello.capacity, dict(hello.labels), list(hello.services)) == (
        3,
        {"site": "berlin"},
        ["a", "b"],
    )
    assert {"command", "http", "inventory", "local-command", "ssh"} <= set(hello.methods)
    assert hello.tool_digests["run_command"] == RUN_COMMAND.digest
    order = command("echo", "hello")
    connection.assign(order)
    report = await server.report(order.attempt_id)
    assert report.state == states.ATTEMPT_STATE_COMPLETED
    assert json.loads(report.output)["text"] == "hello\n"
    key = (order.attempt_id, states.OUTPUT_STREAM_STDOUT)
    await server.until(lambda: server.output[key] == b"hello\n")
    connection.ack(order.attempt_id)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 10) == 0
    assert (agent.folder.stat().st_mode & 0o777) == 0o700
    assert ((agent.folder / "agent.key").stat().st_mode & 0o777) == 0o600


async def test_steps_run_in_the_root_folder_with_a_home_and_no_file_of_the_agent(
    agent: AgentProcess, server: FakeOrchestrator
) -> None:
    await agent.join()
    connection = await server.connection()
    script = "pwd; echo $HOME; ls -l /proc/$$/fd | grep -c agent || true"
    order = command("/bin/sh", "-c", script)
    connection.assign(order)
    report = await server.report(order.attempt_id)
    home = pwd.getpwuid(os.getuid()).pw_dir
    assert json.loads(report.output)["text"].splitlines() == ["/", home, "0"]


async def test_stopping_waits_for_what_runs(agent: AgentProcess, server: FakeOrchestrator) -> None:
    process = await agent.join()
    connection = await server.connection()
    order = command("sleep", "0.7")
    connection.assign(order)
    await server.until(lambda: any(f.HasField("report") for f in connection.frames))
    process.terminate()
    await server.until(lambda: any(f.HasField("draining") for f in connection.frames))
    report = await server.report(order.attempt_id)
    assert report.state == states.ATTEMPT_STATE_COMPLETED
    connection.ack(order.attempt_id)
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_a_second_signal_ends_what_runs(
    agent: AgentProcess, server: FakeOrchestrator
) -> None:
    process = await agent.join()
    connection = await server.connection()
    order = command("sleep", "60")
    connection.assign(order)
    await server.until(lambda: any(f.HasField("report") for f in connection.frames))
    process.send_signal(signal.SIGINT)
    await server.until(lambda: any(f.HasField("draining") for f in connection.frames))
    process.send_signal(signal.SIGINT)
    report = await server.report(order.attempt_id)
    assert report.state == states.ATTEMPT_STATE_CANCELLED
    connection.ack(order.attempt_id)
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_a_second_process_in_the_same_folder_is_refused(
    agent: AgentProcess, server: FakeOrchestrator
) -> None:
    first = await agent.join()
    await server.connection()
    second = await agent.start("run")
    _, errors = await second.communicate()
    assert second.returncode == 2
    assert f"another agent process (pid {first.pid}) holds {agent.folder}" in errors.decode()


async def test_joining_again_leaves_the_earlier_store(
    agent: AgentProcess, server: FakeOrchestrator
) -> None:
    first = await agent.join()
    connection = await server.connection()
    order = command("echo", "never acknowledged")
    connection.assign(order)
    await server.report(order.attempt_id)
    first.kill()
    await first.wait()
    server.incarnation, server.epoch = "inc-other", 0
    await agent.join()
    connection = await server.connection(2)
    assert list(connection.hello.attempts) == []
    assert (connection.hello.incarnation, connection.hello.last_session_epoch) == ("", 0)
    connection.assign(order)
    assert (await server.report(order.attempt_id, 2)).state == states.ATTEMPT_STATE_COMPLETED


async def test_an_agent_joins_over_whichever_orchestrator_can_be_reached(
    agent: AgentProcess, server: FakeOrchestrator
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nowhere = f"127.0.0.1:{listener.getsockname()[1]}"
    live, agent.endpoint = agent.endpoint, nowhere
    await agent.join("--endpoint", live)
    await until(lambda: bool(server.connections), 30)  # it looks for the first one for five seconds
    connection = await server.connection()
    assert len(connection.hello.instance_id) == 32
    settings = json.loads((agent.folder / "agent.yaml").read_text())
    assert (settings["endpoint"], settings["endpoints"]) == (nowhere, [live])


async def test_every_start_of_a_process_is_an_instance_of_its_own(
    agent: AgentProcess, server: FakeOrchestrator
) -> None:
    process = await agent.join()
    first = await server.connection()
    first.end()
    second = await server.connection(2)
    process.kill()
    await process.wait()
    await agent.start("run")
    third = await server.connection(3)
    ids = [each.hello.instance_id for each in (first, second, third)]
    assert ids[0] == ids[1] != ids[2]
    journals = {each.hello.journal_id for each in (first, second, third)}
    assert len(journals) == 1


async def test_a_damaged_journal_refuses_to_start_and_says_what_to_do(
    agent: AgentProcess, server: FakeOrchestrator
) -> None:
    process = await agent.join()
    connection = await server.connection()
    order = command("echo", "hello")
    connection.assign(order)
    await server.report(order.attempt_id)
    process.kill()
    await process.wait()
    path = agent.folder / "journal"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    again = await agent.start("run")
    _, errors = await again.communicate()
    assert again.returncode == 3
    assert "JOURNAL_CORRUPT" in errors.decode()
    assert f"Move {path} away" in errors.decode()
    path.unlink()
    await agent.start("run")
    fresh = await server.connection(2)
    assert fresh.hello.journal_id not in ("", connection.hello.journal_id)
    assert list(fresh.hello.attempts) == []


async def test_a_certificate_is_replaced_before_it_ends(
    agent: AgentProcess, server: FakeOrchestrator, authority: CertificateAuthority
) -> None:
    # The first was made nine of its ten hours ago.
    ages = [timedelta(hours=9), timedelta(0)]

    def sign(csr: bytes) -> bytes:
        made = datetime.now(UTC) - ages.pop(0)
        return authority.sign_csr(csr, "agent", "local", "default", timedelta(hours=10), now=made)

    server.sign = sign
    await agent.join()
    await server.connection(2)
    assert ages == []


CRASHES = [
    # failpoint, state the orchestrator learns in the end, lines in the ledger
    ("hello.before_send", "COMPLETED", 1),
    ("assign.before_verify", "COMPLETED", 1),
    ("executing.before_fsync", "COMPLETED", 1),
    ("executing.after_fsync_before_spawn", "UNKNOWN", 0),
    ("exit.before_append", "COMPLETED", 1),
    ("exit.after_append_before_report", "COMPLETED", 1),
    ("report.before_send", "COMPLETED", 1),
    ("forget.mid", "COMPLETED", 1),
]


@pytest.mark.parametrize(("failpoint", "state", "lines"), CRASHES)
async def test_killed_at_a_crash_point_a_change_runs_at_most_once_and_its_end_is_told(
    agent: AgentProcess,
    server: FakeOrchestrator,
    tmp_path: Path,
    failpoint: str,
    state: str,
    lines: int,
) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    order = command("sh", "-c", 'echo "$OPSCONDUCTOR_ATTEMPT" >> "$1"', "sh", str(ledger))
    process = await agent.join(failpoint=f"{failpoint}:kill9")
    if failpoint != "hello.before_send":
        connection = await server.connection()
        connection.assign(order)
        if failpoint == "forget.mid":
            await server.report(order.attempt_id)
            connection.ack(order.attempt_id)
    assert await asyncio.wait_for(process.wait(), 10) == -signal.SIGKILL
    known = len(server.connections)
    await agent.start("run")
    connection = await server.connection(known + 1)
    found = await _settled(server, connection, known + 1, order)
    assert STATE(found.state) == f"ATTEMPT_STATE_{state}"
    assert ledger.read_text().splitlines() == [order.attempt_id] * lines
    # Sent again it is answered, not run.
    connection.assign(order)
    connection.ack(order.attempt_id)
    connection.assign(order)
    await server.until(
        lambda: (
            [f.report.attempt_id for f in connection.frames if f.HasField("report")].count(
                order.attempt_id
            )
            >= 2
        )
    )
    assert len(ledger.read_text().splitlines()) == lines


async def _settled(
    server: FakeOrchestrator, connection: Connection, number: int, order: Order
) -> Any:
    """Does as an orchestrator whose store says the order is granted."""
    told = {each.attempt_id: each for each in connection.hello.attempts}
    if order.attempt_id not in told:
        connection.assign(order)
    elif told[order.attempt_id].HasField("end_time"):
        return told[order.attempt_id]
    return await server.report(order.attempt_id, connection=number)


def test_help_is_complete_and_quick_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["run", "--help"], ["join", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "allowed_signers" in shown
    assert "--token-file" in shown


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, opsconductor.agent.main\n"
        "assert not {'grpc', 'asyncssh', 'httpx', 'cel', 'jc', 'cryptography'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_running_before_joining_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--data-dir", str(tmp_path)]) == 2
    assert "run 'opsconductor-agent join' first" in capsys.readouterr().err


def test_all_mistakes_of_a_join_are_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["join", "--data-dir", str(tmp_path / "a"), "--endpoint", "nowhere", "--capacity"]
    token = tmp_path / "t"
    token.touch()
    assert main([*arguments, "0", "--label", "site", "--token-file", str(token)]) == 2
    shown = capsys.readouterr().err
    assert all(word in shown for word in ("endpoint", "capacity", "labels"))
