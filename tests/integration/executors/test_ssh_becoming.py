"""Commands as another user by sudo, and hosts behind others, over real SSH."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from helpers.places import Place, marked_processes, new_attempt, target_of, until
from helpers.sshd import SshServer, free_port, standin_server
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.ssh.executor import SshExecutor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opsconductor.agent.executors.base import Outcome

TRACE = Path("/tmp/opsconductor-became")
PASSWORD = f"correct; touch {TRACE}"
"""Leaves a trace if it is ever run as a command."""
FAKE_SUDO = """\
#!/bin/sh
echo "$@" >> {log}
case " $* " in *" -S "*)
    if [ -e {folder}/asks ]; then
        IFS= read -r given
        [ "$given" = '{password}' ] || {{ echo "sudo: 1 incorrect password attempt" >&2; exit 1; }}
    fi ;;
*) if [ -e {folder}/asks ]; then echo "sudo: a password is required" >&2; exit 1; fi ;;
esac
while [ "$1" != -- ]; do shift; done
shift
BECAME=root exec "$@"
"""


def was_run() -> bool:
    return TRACE.exists()


def login(server: SshServer, **more: Any) -> Credential:
    hidden = tuple(more.pop("hidden", {}).items())
    return Credential(
        username=server.username,
        private_key_file=str(server.client_key),
        settings=tuple(more.items()),
        hidden=hidden,
    )


def told(outcome: Outcome) -> tuple[str, str, str]:
    assert outcome.error is not None, outcome
    return outcome.state, outcome.effects, outcome.error.code


async def on(server: SshServer, credential: Credential, script: str, **options: Any) -> Place:
    place = Place("ssh", SshExecutor(lambda _: credential), target_of(server))
    outcome = await place.sh(script, **options)
    await place.executor.close()
    assert outcome.state == "completed", outcome.error
    return place


@pytest.fixture
async def fake_sudo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[SshServer, Path]]:
    folder = tmp_path / "bin"
    folder.mkdir()
    sudo = folder / "sudo"
    log = tmp_path / "sudo.log"
    sudo.write_text(FAKE_SUDO.format(log=log, folder=folder, password=PASSWORD))
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    async with standin_server(tmp_path / "server") as server:
        yield server, folder


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another unasked")
needs_sudo = pytest.mark.skipif(
    shutil.which("sudo") is None, reason="sudo is missing: apt-get install sudo"
)


@needs_root
@needs_sudo
@pytest.mark.parametrize("hidden", [{}, {"become_password": PASSWORD}])
async def test_a_command_runs_as_the_other_user_with_its_variables(
    openssh: SshServer, hidden: dict[str, str]
) -> None:
    credential = login(openssh, become="sudo", become_user="nobody", hidden=hidden)
    script = 'id -un; echo "$TRACEPARENT"; cat; printf "%s" "$1"; exit 7'
    place = Place("ssh", SshExecutor(lambda _: credential), target_of(openssh))
    outcome = await place.sh(script, "a 'b' $(c)")
    await place.executor.close()
    assert outcome.exit_code == 7
    assert place.sink.stdout == b"nobody\n00-1-2-01\na 'b' $(c)"
    assert PASSWORD.encode() not in place.sink.stdout + place.sink.stderr
    assert not was_run()


@needs_root
@needs_sudo
@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_cancel_ends_the_tree_of_the_other_user(openssh: SshServer, stubborn: bool) -> None:
    credential = login(openssh, become="sudo", become_user="nobody")
    place = Place("ssh", SshExecutor(lambda _: credential), target_of(openssh))
    name = new_attempt()
    trap = "trap '' TERM;" if stubborn else ""
    running = asyncio.create_task(
        place.sh(f"{trap} echo on; sleep 3014 & (setsid sleep 3015 &); wait", attempt_id=name)
    )
    await until(lambda: len(marked_processes(name)) >= 3)
    place.cancel.set()
    outcome = await running
    await place.executor.close()
    assert (outcome.state, outcome.survivors) == ("cancelled", ())
    assert marked_processes(name) == []


@pytest.mark.parametrize("asks", [True, False])
async def test_a_password_goes_to_sudo_and_is_never_run(
    fake_sudo: tuple[SshServer, Path], asks: bool
) -> None:
    server, folder = fake_sudo
    if asks:
        (folder / "asks").touch()
    credential = login(server, become="sudo", hidden={"become_password": PASSWORD})
    place = await on(server, credential, 'echo "$BECAME"')
    assert place.sink.stdout == b"root\n"
    assert not was_run()
    log = (folder.parent / "sudo.log").read_text()
    assert log.startswith("-S -k -p  -u root -- ")
    assert PASSWORD not in log


async def test_a_sudo_that_refuses_is_told_with_its_words(
    fake_sudo: tuple[SshServer, Path],
) -> None:
    server, folder = fake_sudo
    (folder / "asks").touch()
    for hidden, words in (
        ({}, "password is required"),
        ({"become_password": "wrong-one"}, "incorrect"),
    ):
        credential = login(server, become="sudo", hidden=hidden)
        place = Place("ssh", SshExecutor(lambda _, it=credential: it), target_of(server))  # type: ignore[misc]
        outcome = await place.argv("true")
        await place.executor.close()
        assert told(outcome) == ("failed", "none", "BECOME_FAILED")
        assert outcome.error is not None
        assert words in outcome.error.message
        assert "wrong-one" not in outcome.error.message


async def test_a_user_that_is_no_name_is_refused(tmp_path: Path) -> None:
    async with standin_server(tmp_path / "server") as server:
        for user in ("root; id", "-u", "$(id)", ""):
            credential = login(server, become="sudo", become_user=user)
            place = Place("ssh", SshExecutor(lambda _, it=credential: it), target_of(server))  # type: ignore[misc]
            outcome = await place.argv("true")
            if user:
                assert told(outcome) == ("failed", "none", "CREDENTIAL_INVALID")
            await place.executor.close()


@pytest.fixture
async def behind(
    tmp_path: Path, openssh: SshServer
) -> AsyncIterator[tuple[Place, dict[str, Credential]]]:
    """A host that is reached through a jump host, whose key is in the known hosts."""
    async with standin_server(tmp_path / "inner") as inner:
        known = tmp_path / "known_hosts"
        known.write_text(openssh.known_hosts_line + "\n")
        credentials = {
            "bastion": login(openssh, address=openssh.address, port=str(openssh.port)),
            "tester": login(inner, jump="bastion"),
        }
        executor = SshExecutor(credentials.__getitem__, known_hosts=known)
        yield Place("ssh", executor, target_of(inner)), credentials
        await executor.close()


async def test_a_host_is_reached_through_another(
    behind: tuple[Place, dict[str, Credential]], openssh: SshServer
) -> None:
    place, _ = behind
    for _round in range(2):
        outcome = await place.sh('echo "$SSH_CONNECTION"; exit 3')
        assert outcome.exit_code == 3, outcome.error
    (pooled,) = next(iter(place.executor._pool._pooled.values()))  # type: ignore[attr-defined]
    through = pooled.connected.through
    assert through is not None
    assert through.ssh.get_extra_info("peername")[:2] == (openssh.address, openssh.port)


async def test_a_connection_that_is_closed_closes_that_to_the_jump_host(
    behind: tuple[Place, dict[str, Credential]],
) -> None:
    place, _ = behind
    assert (await place.argv("true")).exit_code == 0
    (pooled,) = next(iter(place.executor._pool._pooled.values()))  # type: ignore[attr-defined]
    await place.executor.close()
    await until(pooled.connected.through.ssh.is_closed)


async def test_a_jump_host_with_another_key_is_refused(
    behind: tuple[Place, dict[str, Credential]], tmp_path: Path
) -> None:
    place, _ = behind
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    line = (tmp_path / "known_hosts").read_text().split()[0]
    (tmp_path / "known_hosts").write_text(f"{line} {other}\n")
    assert told(await place.argv("true")) == ("failed", "none", "HOST_KEY_CHANGED")


async def test_a_jump_host_that_is_not_there_is_named(
    behind: tuple[Place, dict[str, Credential]],
) -> None:
    place, credentials = behind
    port = str(free_port("127.0.0.1"))
    settings = (("address", "127.0.0.1"), ("port", port))
    credentials["bastion"] = replace(credentials["bastion"], settings=settings)
    outcome = await place.argv("true")
    assert told(outcome) == ("unreachable", "none", "CONNECTION_REFUSED")
    assert outcome.error is not None
    assert "jump host bastion" in outcome.error.message


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ((("jump", "tester"), ("address", "127.0.0.1")), "CREDENTIAL_INVALID"),
        ((), "CREDENTIAL_INVALID"),
        ((("address", "127.0.0.1"), ("port", "ssh")), "CREDENTIAL_INVALID"),
        ((("address", "127.0.0.1"), ("jump", "nobody")), "CREDENTIAL_UNKNOWN"),
    ],
)
async def test_a_jump_host_that_cannot_be_is_refused(
    behind: tuple[Place, dict[str, Credential]], settings: Any, code: str
) -> None:
    place, credentials = behind
    credentials["bastion"] = replace(credentials["bastion"], settings=settings)
    assert told(await place.argv("true")) == ("failed", "none", code)
