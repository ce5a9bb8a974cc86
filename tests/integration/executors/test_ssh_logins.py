"""How SSH logins fail, and how connections are kept, against real servers."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from helpers.places import (
    MemorySink,
    Place,
    marked_processes,
    new_attempt,
    ssh_executor,
    target_of,
    until,
)
from helpers.sshd import free_port, standin_server
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.ssh.executor import SshExecutor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from helpers.sshd import SshServer
    from opsconductor.agent.executors.base import Outcome
    from opsconductor.agent.executors.credential import Credentials


async def attempt(server: SshServer, executor: SshExecutor | None = None, **target: Any) -> Outcome:
    """Runs a harmless command with changes to the target."""
    executor = executor or ssh_executor(server)
    try:
        return await Place("ssh", executor, target_of(server, **target)).argv("true")
    finally:
        await executor.close()


def other_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


def always(path: Path) -> Credentials:
    """Returns credentials that know one key."""
    return lambda _: Credential(username="x", private_key_file=str(path))


def told(outcome: Outcome) -> tuple[str, str, str, str]:
    assert outcome.error is not None
    return outcome.state, outcome.effects, outcome.error.code, outcome.error.error_class


async def test_an_unknown_host_key_is_refused_with_its_fingerprint(ssh_server: SshServer) -> None:
    outcome = await attempt(ssh_server, host_keys=[])
    assert told(outcome) == ("failed", "none", "HOST_KEY_UNKNOWN", "non_retryable")
    assert outcome.error is not None
    shown = asyncssh.import_public_key(ssh_server.host_key).get_fingerprint()
    assert shown in outcome.error.message
    assert "known_hosts" in outcome.error.message


async def test_a_changed_host_key_is_refused_with_both_fingerprints(ssh_server: SshServer) -> None:
    known = other_key()
    outcome = await attempt(ssh_server, host_keys=[known.export_public_key().decode()])
    assert told(outcome) == ("failed", "none", "HOST_KEY_CHANGED", "non_retryable")
    assert outcome.error is not None
    assert known.get_fingerprint() in outcome.error.message
    shown = asyncssh.import_public_key(ssh_server.host_key).get_fingerprint()
    assert shown in outcome.error.message


async def test_a_key_of_another_kind_than_the_known_one_counts_as_changed(
    ssh_server: SshServer,
) -> None:
    known = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    assert told(await attempt(ssh_server, host_keys=[known]))[2] == "HOST_KEY_CHANGED"


async def test_keys_may_be_declared_as_fingerprint_or_known_hosts_line(
    ssh_server: SshServer,
) -> None:
    fingerprint = asyncssh.import_public_key(ssh_server.host_key).get_fingerprint()
    for line in (fingerprint, f"web-01 {ssh_server.host_key}"):
        assert (await attempt(ssh_server, host_keys=[line])).state == "completed"


async def test_keys_come_from_the_known_hosts_file(ssh_server: SshServer, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(ssh_server.known_hosts_line + "\n")
    executor = ssh_executor(ssh_server, known_hosts=path)
    assert (await attempt(ssh_server, executor, host_keys=[])).state == "completed"


async def test_a_revoked_key_is_refused(ssh_server: SshServer, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"@revoked {ssh_server.known_hosts_line}\n{ssh_server.known_hosts_line}\n")
    executor = ssh_executor(ssh_server, known_hosts=path)
    outcome = await attempt(ssh_server, executor, host_keys=[])
    assert told(outcome)[2] == "HOST_KEY_REVOKED"


async def test_nothing_is_learned_from_a_connection(ssh_server: SshServer, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("")
    for _ in range(2):
        executor = ssh_executor(ssh_server, known_hosts=path)
        outcome = await attempt(ssh_server, executor, host_keys=[])
        assert told(outcome)[2] == "HOST_KEY_UNKNOWN"
    assert path.read_text() == ""


async def test_a_refused_login_is_told_with_user_and_way(
    ssh_server: SshServer, tmp_path: Path
) -> None:
    path = tmp_path / "wrong"
    path.write_bytes(other_key().export_private_key())
    credential = Credential(username=getpass.getuser(), private_key_file=str(path))
    outcome = await attempt(ssh_server, SshExecutor(lambda _: credential))
    assert told(outcome) == ("failed", "none", "AUTH_FAILED", "non_retryable")
    assert outcome.error is not None
    assert f"user {getpass.getuser()} by key" in outcome.error.message


async def test_a_login_never_uses_keys_of_the_agents_own_user(
    ssh_server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_bytes(ssh_server.client_key.read_bytes())
    monkeypatch.setenv("HOME", str(home))
    credential = Credential(username=getpass.getuser(), password="not the one")
    outcome = await attempt(ssh_server, SshExecutor(lambda _: credential))
    assert told(outcome)[2] == "AUTH_FAILED"


async def test_an_unreadable_key_is_told_before_connecting(
    ssh_server: SshServer, tmp_path: Path
) -> None:
    for path in (tmp_path / "missing", tmp_path / "broken"):
        if path.name == "broken":
            path.write_text("no key")
        outcome = await attempt(ssh_server, SshExecutor(always(path)))
        assert told(outcome)[2] == "CREDENTIAL_INVALID"


async def test_a_missing_credential_is_named(ssh_server: SshServer) -> None:
    outcome = await attempt(ssh_server, credential="nobody-knows")
    assert told(outcome)[2] == "CREDENTIAL_UNKNOWN"
    assert outcome.error is not None
    assert "nobody-knows" in outcome.error.message


async def test_a_closed_port_is_unreachable_with_host_port_and_cause(
    ssh_server: SshServer,
) -> None:
    port = free_port("127.0.0.1")
    outcome = await attempt(ssh_server, address="127.0.0.1", port=port)
    assert told(outcome) == ("unreachable", "none", "CONNECTION_REFUSED", "unreachable")
    assert outcome.error is not None
    assert f"127.0.0.1:{port}" in outcome.error.message
    assert "refused" in outcome.error.message


async def test_an_unknown_name_is_unreachable(ssh_server: SshServer) -> None:
    outcome = await attempt(ssh_server, address="no-such-host.invalid")
    assert told(outcome)[:3] == ("unreachable", "none", "NAME_UNKNOWN")


async def test_a_silent_server_is_unreachable_after_the_connect_timeout(
    ssh_server: SshServer,
) -> None:
    # The kernel completes connections of a listening socket nobody accepts from.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        executor = ssh_executor(ssh_server, connect_timeout=timedelta(seconds=0.5))
        port = silent.getsockname()[1]
        outcome = await attempt(ssh_server, executor, address="127.0.0.1", port=port)
    assert told(outcome)[:3] == ("unreachable", "none", "CONNECT_TIMEOUT")


@pytest.fixture
async def place(ssh_server: SshServer) -> AsyncIterator[Place]:
    executor = ssh_executor(ssh_server)
    yield Place(ssh_server.kind, executor, target_of(ssh_server))
    await executor.close()


async def test_one_connection_serves_many_commands(place: Place) -> None:
    for _ in range(3):
        await place.sh('echo "$SSH_CONNECTION"')
    lines = set(place.sink.stdout.splitlines())
    assert len(lines) == 1


async def test_a_dead_connection_is_replaced_before_anything_is_sent(
    place: Place, tmp_path: Path
) -> None:
    await place.argv("true")
    pool = place.executor._pool  # type: ignore[attr-defined]
    (pooled,) = next(iter(pool._pooled.values()))
    pooled.connection._transport.abort()
    outcome = await place.sh(f"echo ran >> {tmp_path / 'ledger'}")
    assert outcome.state == "completed"
    assert (tmp_path / "ledger").read_text() == "ran\n"


async def test_an_idle_connection_is_closed(ssh_server: SshServer) -> None:
    executor = ssh_executor(ssh_server, idle=timedelta(seconds=0.1))
    place = Place("ssh", executor, target_of(ssh_server))
    await place.argv("true")
    await until(lambda: not executor._pool._pooled)
    assert (await place.argv("true")).state == "completed"
    await executor.close()


@pytest.mark.parametrize(
    ("read_only", "state", "effects"),
    [(True, "unreachable", "none"), (False, "unknown", "possible")],
)
async def test_a_connection_lost_while_it_runs_is_unknown_for_changes(
    place: Place, read_only: bool, state: str, effects: str
) -> None:
    name = new_attempt()
    running = asyncio.create_task(
        place.sh("echo on; sleep 3010", read_only=read_only, attempt_id=name)
    )
    await until(place.sink.arrived.is_set)
    pool = place.executor._pool  # type: ignore[attr-defined]
    (pooled,) = next(iter(pool._pooled.values()))
    pooled.connection._transport.abort()
    outcome = await running
    assert told(outcome)[:3] == (state, effects, "CONNECTION_LOST")
    cleaner = Place("ssh", place.executor, place.target)
    for pid in marked_processes(name):
        await cleaner.argv("kill", "-9", str(pid))


async def test_a_cancel_works_over_a_new_connection_and_says_what_it_cannot_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with standin_server(tmp_path / "server") as server:
        executor = ssh_executor(server, connect_timeout=timedelta(seconds=1))
        place = Place("ssh", executor, target_of(server))
        name = new_attempt()
        running = asyncio.create_task(place.sh("echo on; sleep 3011", attempt_id=name))
        await until(place.sink.arrived.is_set)
        pool = executor._pool
        # The command's own connection stays, but no other channel or login is to be had.
        for entries in pool._pooled.values():
            for pooled in entries:
                monkeypatch.setattr(pooled.connection, "create_session", refuse)
        pool._known_hosts, login = None, next(iter(pool._pooled))
        object.__setattr__(login, "port", free_port("127.0.0.1"))
        place.cancel.set()
        outcome = await running
        assert (outcome.state, outcome.effects) == ("cancel_unverified", "possible")
        assert "could not be asked" in outcome.survivors[0]
        for pid in marked_processes(name):
            os.kill(pid, signal.SIGKILL)
        await executor.close()


async def refuse(*_arguments: object, **_options: object) -> None:
    raise asyncssh.ChannelOpenError(1, "no channel")


async def test_a_login_shell_that_is_none_is_told(tmp_path: Path) -> None:
    async def no_shell(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.stdout.write(b"This account is currently not available.\n")
        process.exit(1)

    async with standin_server(tmp_path / "nologin", handler=no_shell) as server:
        outcome = await attempt(server)
    assert told(outcome) == ("failed", "none", "REMOTE_SHELL_UNUSABLE", "non_retryable")


async def test_what_login_scripts_print_is_not_output(tmp_path: Path) -> None:
    greeting = b"Welcome!\nLast login: never\n"
    async with standin_server(tmp_path / "chatty", greeting=greeting) as server:
        executor, sink = ssh_executor(server), MemorySink()
        outcome = await Place("ssh", executor, target_of(server)).argv("echo", "hi", sink=sink)
        await executor.close()
    assert (outcome.exit_code, sink.stdout) == (0, b"hi\n")
