"""Many SSH hosts on one machine: OpenSSH listening on as many loopback addresses."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

from helpers.sshd import INSTALL_HINT, SSHD, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTENERS = 12
"""Addresses of one server: sshd takes no more than 16."""

_CONFIG = """\
{listen}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PrintMotd no
MaxStartups 1000
LogLevel ERROR
SetEnv HOME={folder}
"""


@dataclass(frozen=True)
class SshTargets:
    """Running servers and how to log in."""

    addresses: tuple[str, ...]
    port: int
    username: str
    client_key: Path
    host_key: str

    def assets(self) -> list[dict[str, object]]:
        """Returns the hosts as assets are imported."""
        return [
            {
                "name": f"host-{number}",
                "type": "linux_server",
                "address": address,
                "port": self.port,
                "connection": "ssh",
                "credential": "bench-login",
                "host_keys": [self.host_key],
            }
            for number, address in enumerate(self.addresses)
        ]

    def credentials(self) -> str:
        """Returns the agent's credentials file."""
        return (
            f"bench-login:\n  kind: ssh\n  username: {self.username}\n"
            f"  private_key_file: {self.client_key}\n"
        )


def available() -> str:
    """Returns why there can be no hosts; empty when there can."""
    return "" if SSHD else INSTALL_HINT


@contextlib.contextmanager
def ssh_targets(folder: Path, count: int) -> Iterator[SshTargets]:
    """Runs the servers."""
    assert SSHD, INSTALL_HINT
    client_key, host_key = _make_keys(folder)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    addresses = tuple(f"127.0.66.{number + 1}" for number in range(count))
    port = free_port(addresses[0])
    with contextlib.ExitStack() as stack:
        for first in range(0, count, _LISTENERS):
            mine = addresses[first : first + _LISTENERS]
            stack.enter_context(_server(folder, first, mine, port))
        yield SshTargets(addresses, port, getpass.getuser(), client_key, host_key)


@contextlib.contextmanager
def _server(folder: Path, number: int, addresses: tuple[str, ...], port: int) -> Iterator[None]:
    assert SSHD
    config = folder / f"sshd-{number}.conf"
    listen = "\n".join(f"ListenAddress {address}:{port}" for address in addresses)
    config.write_text(_CONFIG.format(listen=listen, folder=folder))
    log = folder / f"sshd-{number}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=sink,
        )
        try:
            for address in addresses:
                _wait_until_listening(address, port, process, log)
            yield
        finally:
            process.terminate()
            process.wait()


def _make_keys(folder: Path) -> tuple[Path, str]:
    """Returns the client's private key file and the host's public key."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = {}
    for name in ("host_key", "client_key"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(key.export_private_key())
        lines[name] = key.export_public_key().decode().strip()
    (folder / "authorized_keys").write_text(lines["client_key"] + "\n")
    return folder / "client_key", lines["host_key"]


def _wait_until_listening(
    address: str, port: int, process: subprocess.Popen[bytes], log: Path
) -> None:
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
            return
        time.sleep(0.01)
    raise RuntimeError(f"sshd does not listen on {address}:{port}: {log.read_text()}")
