"""What may happen to an agent's process, its disk, its clock and its line, each done for real."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.duration_pb2 import Duration

from helpers import fake_time
from helpers.agent_process import AgentProcess, command, secured
from helpers.places import marked_processes, until
from opsconductor.orchestrator.pki import CertificateAuthority
from opsconductor.v1 import execution_service_pb2 as states

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from helpers.fake_orchestrator import Connection, FakeOrchestrator
    from opsconductor.v1 import agent_service_pb2 as pb

STATE = states.AttemptState.Name
COMPLETED, NOT_STARTED = states.ATTEMPT_STATE_COMPLETED, states.ATTEMPT_STATE_NOT_STARTED
RUNNING = states.ATTEMPT_STATE_RUNNING


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


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger"
    path.touch()
    return path


def writes(ledger: Path, then: str = "true") -> tuple[str, ...]:
    return ("sh", "-c", f'echo "$OPSCONDUCTOR_ATTEMPT" >> "$1"; {then}', "sh", str(ledger))


def started(ledger: Path) -> list[str]:
    return ledger.read_text().splitlines()


async def runs(connection: Connection, server: FakeOrchestrator, attempt_id: str) -> None:
    """Waits until an attempt is reported as running."""
    await server.until(
        lambda: any(frame.report.attempt_id == attempt_id for frame in connection.frames)
    )


# Frozen


async def test_an_agent_that_was_frozen_starts_nothing_old(
    agent: AgentProcess, server: FakeOrchestrator, ledger: Path
) -> None:
    server.echo = False  # the last sign of life stays the one the order names
    process = await agent.join()
    connection = await server.connection()
    fresh = command("echo", "fresh", execution_id="exec_0")
    old = command(*writes(ledger))
    connection.assign(fresh)
    assert (await server.report(fresh.attempt_id)).state == COMPLETED
    process.send_signal(signal.SIGSTOP)
    connection.assign(old, start_ttl=Duration(seconds=2))
    await asyncio.sleep(2.5)
    process.send_signal(signal.SIGCONT)
    report = await server.report(old.attempt_id)
    assert (report.state, report.error.code) == (NOT_STARTED, "START_TTL_EXPIRED")
    assert started(ledger) == []


async def test_an_agent_frozen_longer_than_its_session_comes_back_with_what_ended_meanwhile(
    agent: AgentProcess, server: FakeOrchestrator, ledger: Path
) -> None:
    server.timeout = 1.0
    process = await agent.join()
    connection = await server.connection()
    order = command(*writes(ledger, "sleep 0.5"))
    connection.assign(order)
    await until(lambda: bool(started(ledger)))
    process.send_signal(signal.SIGSTOP)
    await until(lambda: not marked_processes(order.attempt_id))
    connection.end()
    await asyncio.sleep(1.2)
    process.send_signal(signal.SIGCONT)
    second = await server.connection(2)
    told = {each.attempt_id for each in second.hello.attempts}
    assert order.attempt_id in told
    await until(lambda: _last_state(server, order.attempt_id) == COMPLETED)
    assert started(ledger) == [order.attempt_id]


def _last_state(server: FakeOrchestrator, attempt_id: str) -> int:
    """Returns the newest state any session has told of an attempt."""
    reports = [
        report
        for connection in server.connections
        for report in (
            *connection.hello.attempts,
            *(frame.report for frame in connection.frames if frame.HasField("report")),
        )
        if report.attempt_id == attempt_id
    ]
    return reports[-1].state if reports else 0


# Clock


async def test_a_jump_of_the_clock_touches_only_what_people_dated(
    agent: AgentProcess, server: FakeOrchestrator, ledger: Path, tmp_path: Path
) -> None:
    library = fake_time.library() or pytest.skip(fake_time.HINT)
    shift = tmp_path / "shift"
    shift.write_text("+0\n")
    agent.environment = {**fake_time.variables(library, shift), "FAKETIME_NO_CACHE": "1"}
    await agent.join()
    connection = await server.connection()
    long = command(*writes(ledger, "sleep 2"))
    connection.assign(long)
    await until(lambda: bool(started(ledger)))
    shift.write_text("+30d\n")
    # Neither the session nor a running step nor a fresh read goes by the time of day.
    read = command("echo", "still here", execution_id="exec_2")
    connection.assign(read)
    assert (await server.report(read.attempt_id)).state == COMPLETED
    assert (await server.report(long.attempt_id)).state == COMPLETED
    # What a person approved is over by this clock, so nothing is started on it.
    change = command(*writes(ledger), execution_id="exec_3")
    connection.assign(change)
    report = await server.report(change.attempt_id)
    assert report.state == NOT_STARTED
    shift.write_text("-30d\n")
    again = command("echo", "and here", execution_id="exec_4")
    connection.assign(again)
    assert (await server.report(again.attempt_id)).state == COMPLETED
    assert started(ledger) == [long.attempt_id]
    assert len(server.connections) == 1


# Partition


async def test_a_cut_off_agent_ends_what_runs_when_it_is_told_to(
    agent: AgentProcess, server: FakeOrchestrator, authority: CertificateAuthority, ledger: Path
) -> None:
    agent.environment = {"OPSCONDUCTOR_AGENT_ON_PARTITION": "stop_after: 1s"}
    await agent.join()
    connection = await server.connection()
    order = command(*writes(ledger, "sleep 300"))
    connection.assign(order)
    await until(lambda: bool(started(ledger)))
    await server.__aexit__()
    await until(lambda: not marked_processes(order.attempt_id))
    async with secured(authority, port=server.port) as healed:
        healed.epoch = 10
        told = await _end_told(healed)
        assert STATE(told.state) == "ATTEMPT_STATE_CANCELLED"
        assert told.error.code == "PARTITIONED"
    assert started(ledger) == [order.attempt_id]


async def test_a_cut_off_agent_goes_on_when_it_is_not_told_otherwise(
    agent: AgentProcess, server: FakeOrchestrator, authority: CertificateAuthority, ledger: Path
) -> None:
    await agent.join()
    connection = await server.connection()
    order = command(*writes(ledger, "sleep 0.5; echo end"))
    connection.assign(order)
    await until(lambda: bool(started(ledger)))
    await server.__aexit__()
    await until(lambda: not marked_processes(order.attempt_id))
    async with secured(authority, port=server.port) as healed:
        healed.epoch = 10
        told = await _end_told(healed)
        assert told.state == COMPLETED
        key = (order.attempt_id, states.OUTPUT_STREAM_STDOUT)
        await until(lambda: healed.output[key] == b"end\n")


async def _end_told(healed: FakeOrchestrator) -> pb.AttemptReport:
    """Returns what an agent that was cut off says became of its one attempt."""
    (told,) = (await _patient(healed)).hello.attempts
    if told.state == RUNNING:  # its processes were gone before the agent had looked
        return await healed.report(told.attempt_id)
    return told


async def test_an_agent_keeps_its_grpc_threads_from_one_connection_to_the_next(
    agent: AgentProcess, server: FakeOrchestrator, authority: CertificateAuthority
) -> None:
    process = await agent.join()
    await server.connection()
    before = _engine_threads(process.pid)
    await server.__aexit__()
    tries = []

    def end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(_engine_threads(process.pid))
        writer.close()

    async with await asyncio.start_server(end, "127.0.0.1", server.port):
        await until(lambda: len(tries) >= 3, 30)
    async with secured(authority, port=server.port) as healed:
        healed.epoch = 10
        await _patient(healed)
        assert before
        assert [*tries, _engine_threads(process.pid)] == [before] * (len(tries) + 1)


def _engine_threads(pid: int) -> set[str]:
    names = {
        path.parent.name: path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/comm")
    }
    return {thread for thread, name in names.items() if name.startswith("lifeguard")}


async def _patient(server: FakeOrchestrator) -> Connection:
    await until(lambda: bool(server.connections), 60)
    return server.connections[0]


# Several orchestrators


async def test_an_agent_keeps_to_the_orchestrator_that_is_left_also_over_a_restart(
    agent: AgentProcess, server: FakeOrchestrator, authority: CertificateAuthority, ledger: Path
) -> None:
    async with secured(authority) as other:
        other.epoch = 100
        server.endpoints = [server.endpoint, other.endpoint]
        process = await agent.join()
        first, second = await server.connection(), await other.connection()
        assert first.hello.instance_id == second.hello.instance_id
        order = command(*writes(ledger, "sleep 1"))
        second.assign(order)
        await until(lambda: bool(started(ledger)))
        await server.__aexit__()
        assert (await other.report(order.attempt_id)).state == COMPLETED
        second.ack(order.attempt_id)
        await until(lambda: b'"t":"ack"' in (agent.folder / "journal").read_bytes())
        process.kill()
        await process.wait()
        # What was named is remembered: the settings only know the one that is gone.
        await agent.start("run")
        again = await other.connection(2)
        assert list(again.hello.attempts) == []
        again.assign(order)
        assert (await other.report(order.attempt_id, 2)).state == COMPLETED
    assert started(ledger) == [order.attempt_id]


# Full disk


def own_disk(folder: Path, size: str) -> tuple[str, ...]:
    """Returns the command that gives a process a small disk of its own; skips where it may not."""
    script = f'mount -t tmpfs -o size={size} tmpfs "$0" && cp -a "$0.before/." "$0" && exec "$@"'
    folder.mkdir(exist_ok=True)
    before = folder.with_name(folder.name + ".before")
    before.mkdir(exist_ok=True)
    words = ("unshare", "-rm", "sh", "-c", script, str(folder))
    if not shutil.which("unshare") or subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("this user may not mount a file system of its own: unshare -rm")
    return words


@pytest.mark.cannot_run_in_ci("needs a mount in a user namespace")
async def test_output_that_a_full_disk_does_not_take_is_counted(
    agent: AgentProcess, server: FakeOrchestrator
) -> None:
    agent.before = own_disk(agent.folder, "6m")
    await agent.join()
    connection = await server.connection()
    server.stop_output_at = 1
    order = command("head", "-c", "8000000", "/dev/zero")
    connection.assign(order)
    report = await server.report(order.attempt_id)
    assert STATE(report.state) == "ATTEMPT_STATE_COMPLETED"
    assert report.stdout_left_out > 2_000_000
    note = len(f"\n[… {report.stdout_left_out} bytes left out …]\n".encode())
    assert report.stdout_left_out + report.stdout_bytes in (8_000_000, 8_000_000 + note)


@pytest.mark.cannot_run_in_ci("needs a mount in a user namespace")
async def test_on_a_full_disk_ends_are_kept_and_nothing_new_starts_until_there_is_room(
    agent: AgentProcess, server: FakeOrchestrator, ledger: Path
) -> None:
    agent.before = own_disk(agent.folder, "6m")
    process = await agent.join()
    connection = await server.connection()
    filler = agent.folder / "filler"
    fill = f"sleep 0.3; dd if=/dev/zero of={filler} bs=512 count=100000 2>/dev/null; exit 0"
    first = command(*writes(ledger, fill))
    connection.assign(first)
    await runs(connection, server, first.attempt_id)
    assert (await server.report(first.attempt_id)).state in (COMPLETED, states.ATTEMPT_STATE_FAILED)
    second = command(*writes(ledger), execution_id="exec_2")
    connection.assign(second)
    refused = await server.report(second.attempt_id)
    assert (refused.state, refused.error.code) == (NOT_STARTED, "DISK_FULL")
    assert started(ledger) == [first.attempt_id]
    os.unlink(f"/proc/{process.pid}/root{filler}")  # noqa: PTH108 - see the disk of the agent
    third = command(*writes(ledger), execution_id="exec_3")
    connection.assign(third)
    assert (await server.report(third.attempt_id)).state == COMPLETED
    assert started(ledger) == [first.attempt_id, third.attempt_id]


# Copies


async def test_a_copied_folder_is_another_process_of_the_same_journal(
    agent: AgentProcess, server: FakeOrchestrator, tmp_path: Path
) -> None:
    process = await agent.join()
    first = await server.connection()
    process.send_signal(signal.SIGSTOP)
    copy = AgentProcess(tmp_path / "copy", agent.token_file, agent.endpoint)
    shutil.copytree(agent.folder, copy.folder)
    await copy.start("run")
    second = await server.connection(2)
    process.send_signal(signal.SIGCONT)
    await copy.stop()
    assert first.hello.journal_id == second.hello.journal_id
    assert "" != first.hello.instance_id != second.hello.instance_id != ""
    assert json.loads((copy.folder / "agent.yaml").read_text())["name"] == "local"
