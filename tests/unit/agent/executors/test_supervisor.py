"""The process that supervises commands, and the one that it is forked from."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.places import Place, marked_processes, new_attempt, until
from opsconductor.agent.executors.local import executor as local
from opsconductor.agent.executors.local import supervised
from opsconductor.agent.executors.local.executor import LocalExecutor
from opsconductor.agent.executors.local.nursery import Nursery
from opsconductor.agent.executors.local.run_folder import RunFolders
from opsconductor.agent.executors.local.supervisor import Output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from opsconductor.agent.executors.base import Outcome


@pytest.fixture
async def executor() -> AsyncIterator[LocalExecutor]:
    made = LocalExecutor()
    yield made
    await made.close()


@pytest.fixture
def place(tmp_path: Path, executor: LocalExecutor) -> Place:
    return Place("supervised", executor, None, runs=RunFolders(tmp_path / "runs"))


def _nursery_pid(executor: LocalExecutor) -> int:
    return executor._nursery._pid


async def test_a_change_runs_below_a_supervisor_in_sessions_of_their_own(place: Place) -> None:
    attempt = new_attempt()
    running = asyncio.create_task(place.sh("echo ready; exec sleep 3301", attempt_id=attempt))
    await asyncio.wait_for(place.sink.arrived.wait(), 10)
    # A process between two programs has no environment to be found by.
    await until(lambda: len(marked_processes(attempt)) == 1)
    (pid,) = marked_processes(attempt)
    parent = _parent(pid)
    assert "supervisor.py" in _command(parent)
    assert len({os.getsid(each) for each in (0, pid, parent)}) == 3
    place.cancel.set()
    await running


async def test_a_read_needs_no_supervisor(place: Place, executor: LocalExecutor) -> None:
    assert (await place.argv("true", read_only=True)).exit_code == 0
    assert _nursery_pid(executor) == 0


async def test_a_killed_nursery_is_replaced_and_its_supervisors_go_on(
    place: Place, executor: LocalExecutor
) -> None:
    first = asyncio.create_task(place.sh("echo ready; sleep 0.5; exit 3"))
    await asyncio.wait_for(place.sink.arrived.wait(), 10)
    before = _nursery_pid(executor)
    os.kill(before, signal.SIGKILL)
    await until(lambda: _is_dead(before))
    assert (await place.argv("true")).exit_code == 0
    assert _nursery_pid(executor) != before
    assert (await first).exit_code == 3


async def test_the_nursery_ends_with_its_agent(place: Place, executor: LocalExecutor) -> None:
    await place.argv("true")
    pid = _nursery_pid(executor)
    await executor.close()
    assert _is_dead(pid)


@pytest.mark.parametrize(
    ("content", "mode", "code"),
    [
        (b"not a program", 0o755, "COMMAND_NOT_EXECUTABLE"),
        (b"#!/nowhere/sh\n", 0o755, "COMMAND_NOT_FOUND"),
    ],
)
async def test_why_a_program_cannot_start_is_told(
    place: Place, tmp_path: Path, content: bytes, mode: int, code: str
) -> None:
    program = tmp_path / "program"
    program.write_bytes(content)
    program.chmod(mode)
    outcome = await place.argv(str(program))
    assert outcome.error is not None
    assert (outcome.state, outcome.effects, outcome.error.code) == ("failed", "none", code)


async def test_the_command_holds_neither_lock_nor_any_other_file_of_the_supervisor(
    place: Place,
) -> None:
    await place.sh("ls -l /proc/$$/fd")
    lines = place.sink.stdout.decode().splitlines()
    targets = [line.rpartition(" -> ")[2] for line in lines if " -> " in line]
    assert [target.partition(":")[0] for target in targets] == ["/dev/null", "pipe", "pipe"]


async def test_the_same_attempt_cannot_be_supervised_twice(place: Place) -> None:
    attempt = new_attempt()
    running = asyncio.create_task(place.sh("echo ready; exec sleep 3302", attempt_id=attempt))
    await asyncio.wait_for(place.sink.arrived.wait(), 10)
    again = await place.sh("echo twice", attempt_id=attempt)
    assert again.error is not None
    assert (again.state, again.effects, again.error.code) == ("failed", "none", "SUPERVISOR_FAILED")
    assert len(marked_processes(attempt)) == 1
    place.cancel.set()
    await running


def test_output_the_disk_does_not_take_is_counted_and_nothing_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    output = Output(str(tmp_path), "stdout", read)
    os.write(write, b"kept")
    output.carry()
    real = os.write

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    os.write(write, b"lost")
    monkeypatch.setattr(os, "write", full)
    output.carry()
    monkeypatch.setattr(os, "write", real)
    os.write(write, b"later")
    os.close(write)
    output.carry_rest()
    os.close(read)
    assert (output.written, output.lost, output.ended) == (4, 9, True)
    assert (tmp_path / "stdout.0").read_bytes() == b"kept"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a start be overdue early."""
    monkeypatch.setattr(local, "START_WITHIN", 0.5)
    monkeypatch.setattr(supervised, "_SAYS_ITS_PID_WITHIN", 0.5)


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Arms a crash point of the supervisors to come."""

    def arm(setting: str) -> None:
        monkeypatch.setenv("OPSCONDUCTOR_FAILPOINTS", "1")
        monkeypatch.setenv("OPSCONDUCTOR_FAILPOINT", setting)

    return arm


def _told(outcome: Outcome) -> tuple[str, str, str]:
    return outcome.state, outcome.effects, outcome.error.code if outcome.error else ""


@pytest.mark.usefixtures("soon")
async def test_what_a_nursery_that_stands_still_was_asked_never_begins(
    place: Place, executor: LocalExecutor, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    await place.argv("true")
    stuck = _nursery_pid(executor)
    os.kill(stuck, signal.SIGSTOP)
    outcome = await place.argv("touch", str(ledger))
    assert _told(outcome) == ("failed", "none", "SUPERVISOR_FAILED")
    await until(lambda: _is_dead(stuck))
    assert not ledger.exists()


@pytest.mark.usefixtures("soon")
async def test_a_nursery_that_stood_still_is_replaced(
    place: Place, executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.argv("true")
    stuck = _nursery_pid(executor)
    os.kill(stuck, signal.SIGSTOP)
    await place.argv("true")
    monkeypatch.setattr(local, "START_WITHIN", 60.0)
    assert (await place.argv("true")).exit_code == 0
    assert _nursery_pid(executor) != stuck


async def test_a_supervisor_that_comes_late_lets_nothing_begin(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "START_WITHIN", -1.0)
    monkeypatch.setattr(Nursery, "abandon", lambda *_: None)
    ledger, attempt = tmp_path / "ledger", new_attempt()
    outcome = await place.argv("touch", str(ledger), attempt_id=attempt)
    assert _told(outcome) == ("failed", "none", "SUPERVISOR_FAILED")
    folder = RunFolders(tmp_path / "runs").of(attempt)
    await until(lambda: folder.exit is not None and not folder.is_supervised())
    assert folder.exit is not None
    assert folder.exit.error_number == errno.ETIMEDOUT
    assert not ledger.exists()


@pytest.mark.usefixtures("soon")
async def test_a_supervisor_that_stands_still_is_ended_and_its_command_is_unknown(
    place: Place, tmp_path: Path, armed: Callable[[str], None]
) -> None:
    armed("shim.record.after_rename_before_release:stop")
    ledger, attempt = tmp_path / "ledger", new_attempt()
    outcome = await place.argv("touch", str(ledger), attempt_id=attempt)
    assert _told(outcome) == ("unknown", "possible", "SUPERVISOR_DIED")
    assert not RunFolders(tmp_path / "runs").of(attempt).is_supervised()
    assert not ledger.exists()


@pytest.mark.usefixtures("soon")
async def test_a_cancel_while_the_nursery_stands_still_does_nothing_for_certain(
    place: Place, executor: LocalExecutor, tmp_path: Path
) -> None:
    ledger, attempt = tmp_path / "ledger", new_attempt()
    await place.argv("true")
    os.kill(_nursery_pid(executor), signal.SIGSTOP)
    running = asyncio.create_task(place.argv("touch", str(ledger), attempt_id=attempt))
    await until(RunFolders(tmp_path / "runs").of(attempt).is_supervised)
    place.cancel.set()
    assert _told(await running) == ("cancelled", "none", "CANCELLED")
    assert not ledger.exists()


@pytest.mark.parametrize("point", ["shim.after_lock", "shim.record.before_rename"])
async def test_a_supervisor_killed_before_its_record_has_let_nothing_begin(
    place: Place, tmp_path: Path, armed: Callable[[str], None], point: str
) -> None:
    armed(f"{point}:kill9")
    outcome = await place.argv("touch", str(tmp_path / "ledger"))
    assert _told(outcome) == ("failed", "none", "SUPERVISOR_FAILED")
    assert not (tmp_path / "ledger").exists()


async def test_an_agent_does_not_stand_still_with_its_nursery(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    executor.warm()
    os.kill(_nursery_pid(executor), signal.SIGSTOP)
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)

    def ask_again_and_again() -> None:
        while executor._nursery.launch(tmp_path, lock):
            pass

    with pytest.raises(BlockingIOError):
        ask_again_and_again()
    os.close(lock)
    os.kill(_nursery_pid(executor), signal.SIGKILL)


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()
