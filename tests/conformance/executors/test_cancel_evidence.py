"""What a cancel promises, whoever runs the command: no process of it is left, or it says which."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shutil
import signal
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.places import Place, marked_processes, new_attempt, ssh_executor, target_of, until
from helpers.sshd import INSTALL_HINT, SSHD, openssh_server
from opsconductor.agent.executors.local import stop
from opsconductor.agent.executors.local.executor import LocalExecutor
from opsconductor.agent.executors.local.run_folder import RunFolders
from opsconductor.agent.executors.mock import MockExecutor, MockReply
from opsconductor.agent.executors.processes import send_signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from helpers.sshd import SshServer
    from opsconductor.agent.executors.processes import ProcessInfo

ROOT = os.geteuid() == 0
SLEEPERS = """
trap '' TERM
sleep 3201 &
(setsid sleep 3202 &)
setsid sh -c "trap '' TERM; sleep 3203 & sleep 3204; sleep 3205" &
(sh -c 'setsid sleep 3206 >/dev/null 2>&1 </dev/null &')
(sh -c 'trap "" TERM; exec setsid sleep 3207 >/dev/null 2>&1 </dev/null' &)
wait; wait; sleep 3208
"""
"""Children, daemons that were forked twice, and some of each that do not hear TERM."""
AT_LEAST = 7


USER = "opsconductor-test" if ROOT else getpass.getuser()
"""Somebody without rights; beside root known to the SSH server alone."""
_WITH_USER = """
for name in passwd shadow; do
  cat /etc/$name - <"$1/$name" >"$1/all-$name"
  mount --bind "$1/all-$name" /etc/$name
done
shift; exec "$@"
"""


def knowing_user(folder: Path) -> list[str]:
    """Returns a command that runs another one where the user exists."""
    (folder / "passwd").write_text(f"{USER}:x:45454:45454::/:/bin/sh\n")
    (folder / "shadow").write_text(f"{USER}:*:19000::::::\n")
    return ["unshare", "--mount", "sh", "-c", _WITH_USER, "sh", str(folder)]


@pytest.fixture(scope="module")
def openssh() -> Iterator[SshServer]:
    if not SSHD:
        pytest.skip(INSTALL_HINT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        within = knowing_user(folder) if ROOT else []
        with openssh_server(folder, "127.0.0.3", within) as server:
            (folder / "authorized_keys").chmod(0o644)
            yield server


def ssh_place(server: SshServer, name: str, username: str) -> Place:
    server = replace(server, username=username)
    return Place(name, ssh_executor(server), target_of(server))


@contextlib.asynccontextmanager
async def place_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Place]:
    if kind in ("direct", "supervised"):
        executor = LocalExecutor(grace=timedelta(seconds=0.5), kill_wait=timedelta(seconds=1))
        place = Place(kind, executor, None)
        place.runs = RunFolders(folder / "runs") if kind == "supervised" else None
    elif kind == "mock":
        slow = MockReply(delay=timedelta(seconds=60))
        place = Place(kind, MockExecutor(default=slow), None)
    elif kind == "ssh-root":
        if not ROOT:
            pytest.skip("only root can let root log in")
        place = ssh_place(request.getfixturevalue("openssh"), kind, "root")
    else:
        place = ssh_place(request.getfixturevalue("openssh"), kind, USER)
    try:
        yield place
    finally:
        await place.executor.close()


@pytest.fixture(params=["direct", "supervised", "ssh-root", "ssh-user", "mock"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_of(request.param, request, tmp_path) as made:
        yield made


@pytest.mark.parametrize("times", range(3))
async def test_a_cancelled_tree_of_sleepers_is_gone(place: Place, times: int) -> None:
    attempt = new_attempt()
    running = asyncio.create_task(place.sh(SLEEPERS, attempt_id=attempt))
    if place.name == "mock":
        await asyncio.sleep(0)
    else:
        await until(lambda: len(marked_processes(attempt)) >= AT_LEAST)
    place.cancel.set()
    outcome = await running
    assert (outcome.state, outcome.effects, outcome.survivors) == ("cancelled", "possible", ())
    assert marked_processes(attempt) == []


async def test_a_cancel_while_the_tree_is_growing_leaves_nothing(place: Place) -> None:
    grows = "while :; do (setsid sh -c 'sleep 3209 & sleep 3210' &); sleep 0.1; done"
    attempt = new_attempt()
    running = asyncio.create_task(place.sh(grows, attempt_id=attempt))
    if place.name != "mock":
        await until(lambda: len(marked_processes(attempt)) >= AT_LEAST)
    place.cancel.set()
    outcome = await running
    assert outcome.survivors == ()
    assert outcome.state == "cancelled"
    assert marked_processes(attempt) == []


@pytest.mark.parametrize("place", ["supervised"], indirect=True)
async def test_a_daemon_without_the_marker_is_found_below_its_supervisor(place: Place) -> None:
    script = "(env -i setsid sleep 3211 &) ; echo ready; sleep 3212"
    attempt = new_attempt()
    running = asyncio.create_task(place.sh(script, attempt_id=attempt))
    await until(lambda: bool(_sleeping("3211")) and bool(_sleeping("3212")))
    place.cancel.set()
    outcome = await running
    assert (outcome.state, outcome.survivors) == ("cancelled", ())
    assert _sleeping("3211") == []


@pytest.mark.parametrize("place", ["direct", "supervised"], indirect=True)
async def test_what_cannot_be_ended_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_rights(info: ProcessInfo, number: signal.Signals) -> bool:
        return "3213" not in _command(info.pid) and send_signal(info, number)

    monkeypatch.setattr(stop, "send_signal", without_rights)
    # On a machine with sudo and leave to use it the process would be ended after all.
    monkeypatch.setattr(stop, "signal_by_sudo", lambda *_: None)
    monkeypatch.setattr("opsconductor.agent.executors.cgroups.Cgroup.kill", lambda _: None)
    attempt = new_attempt()
    running = asyncio.create_task(place.sh("setsid sleep 3213 & sleep 3214", attempt_id=attempt))
    await until(lambda: bool(_members(attempt, "3213")) and bool(_members(attempt, "3214")))
    (spared,) = _members(attempt, "3213")
    place.cancel.set()
    outcome = await running
    left = marked_processes(attempt)
    os.kill(spared, signal.SIGKILL)
    assert left == [spared]
    assert (outcome.state, outcome.survivors) == ("cancel_unverified", (f"pid {spared} sleep (S)",))
    assert outcome.error is not None
    assert "may still be running" in outcome.error.message


@pytest.mark.skipif(not ROOT, reason="only root can make a program that runs as root")
@pytest.mark.parametrize("place", ["ssh-user"], indirect=True)
async def test_a_process_of_another_user_is_named(place: Place, openssh: SshServer) -> None:
    setpriv = shutil.which("setpriv")
    assert setpriv, "setpriv is missing: apt-get install util-linux"
    program = shutil.copy(setpriv, openssh.folder / "as-root")
    os.chmod(program, 0o4755)  # noqa: PTH101 - no waiting
    script = f"{program} --reuid=0 --clear-groups sleep 3215 & sleep 3216"
    attempt = new_attempt()
    running = asyncio.create_task(place.sh(script, attempt_id=attempt))
    await until(lambda: bool(_members(attempt, "3215")) and bool(_members(attempt, "3216")))
    (spared,) = _members(attempt, "3215")
    place.cancel.set()
    outcome = await running
    left = marked_processes(attempt)
    os.kill(spared, signal.SIGKILL)
    assert left == [spared]
    assert outcome.state == "cancel_unverified"
    (line,) = outcome.survivors
    assert line.startswith(f"pid {spared} sleep on web-01")


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _members(attempt: str, seconds: str) -> set[int]:
    """Returns what sleeps so long for an attempt; others may be left from a test that failed."""
    return set(_sleeping(seconds)) & set(marked_processes(attempt))


def _sleeping(seconds: str) -> list[int]:
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [pid for pid in pids if _command(pid) == f"sleep {seconds} "]
