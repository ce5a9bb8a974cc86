"""SSH servers for tests: OpenSSH run by hand, and an asyncssh stand-in where it is missing."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

from helpers.accepting import ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    Handler = Callable[[asyncssh.SSHServerProcess[bytes]], Awaitable[None]]

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
INSTALL_HINT = "OpenSSH's sshd is missing: apt-get install openssh-server"

_CONFIG = """\
ListenAddress {address}
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
LogLevel ERROR
"""


@dataclass(frozen=True)
class SshServer:
    """A running server and how to log in."""

    kind: str
    address: str
    port: int
    username: str
    client_key: Path
    host_key: str
    """Public key line, as an asset's host_keys takes it."""
    folder: Path

    @property
    def known_hosts_line(self) -> str:
        """A line for a known_hosts file."""
        return f"[{self.address}]:{self.port} {self.host_key}"


def free_port(address: str) -> int:
    """Returns a port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def openssh_server(
    folder: Path, address: str = "127.0.0.2", within: Sequence[str] = ()
) -> Iterator[SshServer]:
    """Runs OpenSSH with its own host key for the current user.

    Args:
        folder: For its files.
        address: To listen on.
        within: A command that runs the command behind it, such as ``unshare``.
    """
    assert SSHD, INSTALL_HINT
    client_key, host_key = _keys(folder)
    if os.geteuid() == 0:
        # Where sshd separates its privileges; only root's sshd asks for it.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port(address)
    config = folder / "sshd_config"
    config.write_text(_CONFIG.format(address=address, port=port, folder=folder))
    log = (folder / "sshd.log").open("wb")
    process = subprocess.Popen(
        [*within, SSHD, "-D", "-e", "-f", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
    )
    try:
        _listening(address, port, process, folder / "sshd.log")
        yield SshServer("openssh", address, port, getpass.getuser(), client_key, host_key, folder)
    finally:
        process.terminate()
        process.wait()
        log.close()


class Commands:
    """The commands a stand-in server runs, each in a session of its own."""

    def __init__(self, greeting: bytes = b"") -> None:
        self._greeting = greeting
        self._running: dict[asyncio.Task[None], asyncio.subprocess.Process] = {}

    async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Runs what a client asks for."""
        process.stdout.write(self._greeting)
        child = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            process.command or "exec /bin/sh",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = child
        try:
            code = await _follow(child, process)
        finally:
            child._transport.close()  # type: ignore[attr-defined]
            del self._running[task]
        if code < 0:
            process.exit_with_signal(_SIGNALS.get(-code, "TERM"))
        else:
            process.exit(code)

    async def end(self) -> None:
        """Ends what still runs."""
        for child in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        if self._running:
            await asyncio.wait(list(self._running), timeout=10)


@contextlib.asynccontextmanager
async def standin_server(
    folder: Path,
    address: str = "127.0.0.1",
    *,
    greeting: bytes = b"",
    handler: Handler | None = None,
) -> AsyncIterator[SshServer]:
    """Runs an asyncssh server that starts commands as the current user."""
    client_key, host_key = _keys(folder)
    commands = Commands(greeting)
    connections: list[asyncssh.SSHServerConnection] = []

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            connections.append(conn)

    server = await asyncssh.listen(
        address,
        0,
        server_factory=Server,
        server_host_keys=[str(folder / "host_key")],
        authorized_client_keys=str(folder / "authorized_keys"),
        process_factory=handler or commands.serve,
        encoding=None,
        allow_scp=False,
    )
    port = server.get_port()
    user = getpass.getuser()
    try:
        yield SshServer("standin", address, port, user, client_key, host_key, folder)
    finally:
        server.close()
        await commands.end()
        await ended(connections)
        await server.wait_closed()


async def _follow(
    child: asyncio.subprocess.Process, process: asyncssh.SSHServerProcess[bytes]
) -> int:
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    feed = asyncio.create_task(_feed(process, child.stdin))
    outputs = [
        asyncio.create_task(_carry(child.stdout, process.stdout)),
        asyncio.create_task(_carry(child.stderr, process.stderr)),
    ]
    code = await child.wait()
    # Background children may hold the pipes open; asyncssh cannot tell the exit code before.
    await asyncio.wait(outputs, timeout=0.5)
    for task in (feed, *outputs):
        task.cancel()
    return code


async def _feed(process: asyncssh.SSHServerProcess[bytes], stdin: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        stdin.write(await process.stdin.read())
        stdin.close()


async def _carry(source: asyncio.StreamReader, to: asyncssh.SSHWriter[bytes]) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read(65536):
            to.write(data)
            await to.drain()


_SIGNALS = {1: "HUP", 2: "INT", 9: "KILL", 15: "TERM"}


def _keys(folder: Path) -> tuple[Path, str]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host_key", "client_key"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        (folder / name).write_bytes(key.export_private_key())
        (folder / name).chmod(0o600)
        (folder / f"{name}.pub").write_bytes(key.export_public_key())
    (folder / "authorized_keys").write_bytes((folder / "client_key.pub").read_bytes())
    return folder / "client_key", (folder / "host_key.pub").read_text().strip()


def _listening(address: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(500):
        if process.poll() is not None:
            raise RuntimeError(f"sshd ended at once: {log.read_text()}")
        with contextlib.suppress(OSError):
            socket.create_connection((address, port), timeout=1).close()
            return
        time.sleep(0.01)
    raise RuntimeError(f"sshd does not listen on {address}:{port}: {log.read_text()}")
