"""A private PostgreSQL for tests: its own data directory, socket and port, gone afterwards."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HINT = "initdb and pg_ctl are not installed: install the PostgreSQL server to run these tests"
_SETTINGS = (
    "fsync=off",  # the tests kill processes, not the machine
    "max_connections=60",
    "shared_buffers=32MB",
    "listen_addresses=127.0.0.1",
)


def binaries() -> Path | None:
    """Returns the folder of the newest PostgreSQL server programs, None when there are none."""
    found = shutil.which("initdb")
    if found and shutil.which("pg_ctl", path=Path(found).resolve().parent):
        return Path(found).resolve().parent
    installed = sorted(
        (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")),
        key=lambda path: [int(part) for part in path.parent.name.split(".") if part.isdecimal()],
    )
    return installed[-1] if installed else None


def _account() -> str:
    """Returns whom to run the server as: it refuses to be root. Empty means ourselves."""
    if os.geteuid() != 0:
        return ""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Cluster:
    """A running server."""

    folder: Path
    programs: Path
    account: str
    port: int = field(default_factory=_free_port)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def run(self, program: str, *arguments: str) -> None:
        """Runs one of PostgreSQL's programs; its words are in the error when it fails."""
        user = ["setpriv", f"--reuid={self.account}", "--clear-groups"] if self.account else []
        done = subprocess.run(
            [*user, str(self.programs / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stdout.decode(errors='replace')}")

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        options = " ".join(f"-c {setting}" for setting in _SETTINGS)
        options += f" -p {self.port} -k {self.folder}"
        log = str(self.folder / "log")
        self.run("pg_ctl", "start", "-w", "-D", self._data, "-l", log, "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """Stops the server; ``immediate`` is its crash."""
        self.run("pg_ctl", "stop", "-w", "-m", mode, "-D", self._data)

    def create(self) -> None:
        """Makes the data directory."""
        self.run(
            "initdb",
            "-D",
            self._data,
            "-U",
            "opsc",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        )

    def new_database(self) -> str:
        """Makes an empty database and returns its URL."""
        name = f"test_{next(self._numbers)}"
        self.run("createdb", *self._connection, name)
        return f"postgresql://opsc@127.0.0.1:{self.port}/{name}"

    def execute(self, url: str, sql: str) -> None:
        """Runs SQL as the superuser in the database of a URL."""
        name = url.rpartition("/")[2]
        self.run("psql", *self._connection, "-v", "ON_ERROR_STOP=1", "-c", sql, name)

    def end_connections(self, url: str) -> None:
        """Cuts every connection to a database, as a failover does."""
        name = url.rpartition("/")[2]
        self.execute(
            url.replace(name, "postgres"),
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    @property
    def _connection(self) -> tuple[str, ...]:
        return ("-h", "127.0.0.1", "-p", str(self.port), "-U", "opsc")


@contextlib.contextmanager
def private_cluster() -> Iterator[Cluster]:
    """Runs a server; skips the test where none is installed, and fails it under CI=true."""
    programs = binaries()
    if programs is None:
        if os.environ.get("CI") == "true":
            pytest.fail(HINT)
        pytest.skip(HINT)
    account = _account()
    # Not pytest's folders: root's are closed to the account the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="opsc-pg-"))
    try:
        if account:
            shutil.chown(folder, account)
        cluster = Cluster(folder, programs, account)
        cluster.create()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A server for the whole session."""
    with private_cluster() as cluster:
        yield cluster


@pytest.fixture
def postgres_url(postgres: Cluster) -> str:
    """An empty database of its own."""
    return postgres.new_database()
