"""Private servers for tests, each in a folder of its own on a free port, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"))


def program(name: str, package: str) -> str:
    """Returns the path of a program; skips the test where it is missing, with what to install."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return found


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Returns a port of 127.0.0.1 nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A server of one test session, which can be stopped, frozen and started again."""

    command: Callable[[Server], list[str]]
    answers: Callable[[Server], bool]
    folder: Path
    port: int = field(default_factory=free_port)
    account: str = ""
    """Whom it runs as; empty means ourselves."""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(self),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                user=self.account or None,
                env={"PATH": _PATH, "HOME": str(self.folder), "LC_ALL": "C"},
            )
        deadline = time.monotonic() + 60
        while not self.answers(self):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"does not start: {(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends it at once, as a crash does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


def accepts(server: Server) -> bool:
    """Tells whether something listens on the server's port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
        return True
    return False


@contextlib.contextmanager
def private_folder(prefix: str, account: str = "") -> Iterator[Path]:
    """Yields a folder that the account may use: pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        if account:
            shutil.chown(folder, account)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unprivileged(name: str) -> str:
    """Returns an account for servers that refuse to be root; empty when we are not root."""
    if os.geteuid() != 0:
        return ""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return name if name in known else "nobody"


MARIADB_ADMIN = ("admin", "admin-password")


def _mariadb_command(server: Server) -> list[str]:
    return [
        program("mariadbd", "mariadb-server"),
        "--no-defaults",
        f"--datadir={server.folder}/data",
        f"--port={server.port}",
        "--bind-address=127.0.0.1",
        f"--socket={server.folder}/socket",
        f"--pid-file={server.folder}/pid",
        "--innodb-buffer-pool-size=16M",
        "--innodb-flush-log-at-trx-commit=0",
        "--skip-name-resolve",
    ]


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB with the account ``admin`` and a database ``shop``."""
    install = program("mariadb-install-db", "mariadb-server")
    client = program("mariadb", "mariadb-server")
    program("mariadbd", "mariadb-server")
    account = unprivileged("mysql")
    with private_folder("opsc-my-", account) as folder:
        subprocess.run(
            [
                install,
                "--no-defaults",
                f"--datadir={folder}/data",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                *([f"--user={account}"] if account else []),
            ],
            check=True,
            capture_output=True,
        )
        server = Server(_mariadb_command, accepts, folder, account=account)
        server.start()
        try:
            user, password = MARIADB_ADMIN
            subprocess.run(
                [client, "--no-defaults", f"--socket={folder}/socket", "-u", "root"],
                input=f"CREATE USER {user}@'127.0.0.1' IDENTIFIED BY '{password}';"
                f"GRANT ALL ON *.* TO {user}@'127.0.0.1';"
                "CREATE DATABASE shop CHARACTER SET utf8mb4;",
                text=True,
                check=True,
                capture_output=True,
            )
            yield server
        finally:
            server.kill()


def _redis_command(server: Server) -> list[str]:
    options = ["--save", "", "--appendonly", "no", "--requirepass", "redis-password"]
    return [
        program("redis-server", "redis-server"),
        *("--port", str(server.port), "--bind", "127.0.0.1", "--dir", str(server.folder)),
        *options,
    ]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """A Redis with a password."""
    program("redis-server", "redis-server")
    with private_folder("opsc-redis-") as folder:
        server = Server(_redis_command, accepts, folder)
        server.start()
        try:
            yield server
        finally:
            server.kill()
