"""Commands that need root, here and over SSH, by a login that is not root."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.places import Place, marked_processes, new_attempt, target_of, until
from helpers.sshd import standin_server
from opsconductor.agent.calls import Collected, PreparedCall, judge
from opsconductor.agent.executors import elevation, spawn
from opsconductor.agent.executors.base import Outcome
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.environment import PATH
from opsconductor.agent.executors.local import stop
from opsconductor.agent.executors.local.executor import LocalExecutor
from opsconductor.agent.executors.processes import ProcessId, Traces, step_processes
from opsconductor.agent.executors.ssh.executor import SshExecutor
from opsconductor.agent.verify import VerifiedCall
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.rendering.render import render
from opsconductor.tool_registry.rendering.rendered import ArgvCommand
from opsconductor.tool_registry.roots import tools_root

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from helpers.sshd import SshServer

FAKE_SUDO = """\
#!/bin/sh
echo "$*" >> {folder}/sudo.log
if [ -e {folder}/refuses ]; then echo "sudo: a password is required" >&2; exit 1; fi
while [ "$1" != -- ]; do shift; done
shift
BECAME=root exec "$@"
"""
NOT_ROOT = 65534
needs_sudo = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("sudo") is None, reason="needs root, and sudo to try"
)


@pytest.fixture
def fake_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a sudo that tells what it was asked for; here and for stand-in servers."""
    folder = tmp_path / "bin"
    folder.mkdir()
    sudo = folder / "sudo"
    sudo.write_text(FAKE_SUDO.format(folder=folder))
    sudo.chmod(0o755)
    monkeypatch.setattr(spawn, "PATH", f"{folder}:{PATH}")
    monkeypatch.setattr(elevation, "PATH", f"{folder}:{PATH}")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOT_ROOT)


def asked(folder: Path) -> list[str]:
    log = folder / "sudo.log"
    return log.read_text().splitlines() if log.exists() else []


async def run(place: Place, *words: str, elevated: bool = True, **options: Any) -> Outcome:
    return await place.run(ArgvCommand(words, elevated=elevated), **options)


@pytest.mark.usefixtures("not_root")
async def test_a_local_command_that_needs_root_goes_through_sudo(fake_sudo: Path) -> None:
    place = Place("local-command", LocalExecutor(), None)
    outcome = await run(place, "printenv", "BECAME")
    assert (outcome.exit_code, place.sink.stdout) == (0, b"root\n")
    assert asked(fake_sudo) == ["-n -- printenv BECAME"]
    await run(place, "printenv", "BECAME", elevated=False)
    assert len(asked(fake_sudo)) == 1


async def test_root_needs_no_sudo(fake_sudo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    place = Place("local-command", LocalExecutor(), None)
    assert (await run(place, "true")).exit_code == 0
    assert asked(fake_sudo) == []


@pytest.mark.usefixtures("not_root")
async def test_a_host_without_sudo_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = spawn.find_program

    def without_sudo(program: bytes) -> bytes:
        return found(b"no-such-program" if program == b"sudo" else program)

    monkeypatch.setattr(elevation, "find_program", without_sudo)
    outcome = await run(Place("local-command", LocalExecutor(), None), "true")
    assert outcome.error is not None
    assert (outcome.state, outcome.effects) == ("failed", "none")
    assert outcome.error.code == "BECOME_FAILED"
    assert "has no sudo" in outcome.error.message


@needs_sudo
@pytest.mark.parametrize("words", [["true"], ["no-such-program"]])
def test_what_the_real_sudo_says_is_understood(words: list[str]) -> None:
    done = subprocess.run(
        ["sudo", "-n", "--", *words],
        check=False,
        capture_output=True,
        user=NOT_ROOT,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )
    told = (done.stdout or b"", done.stderr or b"")
    outcome = elevation.refusal("set_file_mode", done.returncode, *told)
    assert outcome is not None, done
    assert outcome.error is not None
    assert (outcome.effects, outcome.error.code) == ("none", "BECOME_FAILED")
    assert "sudoers" in outcome.error.message


@pytest.mark.parametrize(
    ("code", "stdout", "stderr"),
    [
        (1, b"", b"chmod: /x: no such file\n"),
        (1, b"done half\n", b"sudo: a password is required\n"),
        (2, b"", b"sudo: a password is required\n"),
        (1, b"", b"sudo: a password is required\nand then it failed\n"),
        (1, b"", b""),
    ],
)
def test_a_command_that_ran_is_not_taken_for_a_refusal(
    code: int, stdout: bytes, stderr: bytes
) -> None:
    assert elevation.refusal("set_file_mode", code, stdout, stderr) is None


@pytest.mark.parametrize(
    "said",
    [
        "sudo: a password is required",
        "sudo: a terminal is required to read the password; either use the -S option",
        "alice is not in the sudoers file.  This incident will be reported.",
        "Sorry, user alice is not allowed to execute '/usr/bin/rm /x' as root on web-01.",
        "Sorry, user alice may not run sudo on web-01.",
        'sudo: The "no new privileges" flag is set, which prevents sudo from running as root.',
    ],
)
def test_each_refusal_of_sudo_is_one(said: str) -> None:
    warned = f"sudo: unable to resolve host web-01\n{said}\n".encode()
    assert elevation.refusal("t", 1, b"", warned) is not None


async def test_a_call_that_sudo_refused_has_provably_done_nothing() -> None:
    tool = Registry.load([tools_root() / "linux"]).get("delete_file")
    inputs = {"path": "/srv/x"}
    call = VerifiedCall(tool, inputs, None, "")
    prepared = PreparedCall(call, render(tool, inputs, None), LocalExecutor())
    printed = Collected()
    await printed.write("stderr", b"sudo: a password is required\n")
    result = judge(prepared, Outcome("completed", 1, "done"), printed)
    assert result.failure is not None
    assert (result.state, result.outcome.effects) == ("failed", "none")
    assert result.failure.code == "BECOME_FAILED"
    assert "delete_file needs root" in result.failure.message


@needs_sudo
async def test_a_process_of_another_user_is_ended_through_sudo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    monkeypatch.setattr(stop, "send_signal", lambda *_: False)
    child = await asyncio.create_subprocess_exec("sleep", "3099", start_new_session=True)
    traces = Traces(b"NONE=1", ProcessId(child.pid))
    waiting = asyncio.create_task(child.wait())

    left = await stop.StepTree(traces).stop(timedelta(seconds=5), timedelta(seconds=5))
    assert left == ()
    assert await waiting == -15
    assert step_processes(traces) == []


def login(server: SshServer, username: str = "", **settings: str) -> Credential:
    return Credential(
        username=username or server.username,
        private_key_file=str(server.client_key),
        settings=tuple(settings.items()),
    )


@pytest.fixture
async def standin(tmp_path: Path, fake_sudo: Path) -> AsyncIterator[tuple[SshServer, Path]]:
    async with standin_server(tmp_path / "server") as server:
        yield server, fake_sudo


async def test_a_login_that_is_root_needs_no_sudo_over_ssh(
    standin: tuple[SshServer, Path],
) -> None:
    server, folder = standin
    if os.geteuid() != 0:
        pytest.skip("the stand-in's commands run as this user")
    place = Place("ssh", SshExecutor(lambda _: login(server)), target_of(server))
    assert (await run(place, "true")).exit_code == 0
    await place.executor.close()
    assert asked(folder) == []


async def test_over_ssh_the_shell_becomes_root_for_that_call_alone(
    standin: tuple[SshServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, folder = standin
    ident = folder / "id"
    ident.write_text("#!/bin/sh\necho 1000\n")
    ident.chmod(0o755)
    place = Place("ssh", SshExecutor(lambda _: login(server)), target_of(server))
    outcome = await run(place, "printenv", "BECAME")
    assert (outcome.exit_code, place.sink.stdout) == (0, b"root\n")
    assert asked(folder) == ["-n -- /bin/sh -s"]
    await run(place, "true", elevated=False)
    assert len(asked(folder)) == 1
    assert len(place.executor._pool._pooled) == 1  # type: ignore[attr-defined]
    await place.executor.close()


async def test_a_sudo_that_refuses_over_ssh_is_told_with_the_remedy(
    standin: tuple[SshServer, Path],
) -> None:
    server, folder = standin
    (folder / "refuses").touch()
    ident = folder / "id"
    ident.write_text("#!/bin/sh\necho 1000\n")
    ident.chmod(0o755)
    who = replace(login(server), username="somebody")
    place = Place("ssh", SshExecutor(lambda _: who), target_of(server))
    outcome = await run(place, "true")
    await place.executor.close()
    assert outcome.error is not None
    assert (outcome.state, outcome.effects) == ("failed", "none")
    assert outcome.error.code == "BECOME_FAILED", outcome.error
    assert "somebody ALL=(root) NOPASSWD: ALL" in outcome.error.message
    assert "become_password" in outcome.error.message


@needs_sudo
async def test_a_cancel_over_ssh_ends_the_tree_of_root(openssh: SshServer) -> None:
    place = Place("ssh", SshExecutor(lambda _: login(openssh)), target_of(openssh))
    name = new_attempt()
    script = "echo on; sleep 3024 & (setsid sleep 3025 &); wait"
    running = asyncio.create_task(run(place, "/bin/sh", "-c", script, attempt_id=name))
    await until(lambda: len(marked_processes(name)) >= 3)
    place.cancel.set()
    outcome = await running
    await place.executor.close()
    assert (outcome.state, outcome.survivors) == ("cancelled", ())
    assert marked_processes(name) == []
