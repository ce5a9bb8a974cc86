"""The places a command can run at, each with an executor and a target."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.sshd import INSTALL_HINT, SSHD, SshServer, openssh_server, standin_server
from opsconductor.agent.executors.base import MARKER, Call, Outcome
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.local import LocalExecutor
from opsconductor.agent.executors.ssh import SshExecutor
from opsconductor.tool_registry.rendered import ArgvCommand, Rendered, ScriptCommand

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import Executor, Sink, Stream

_numbers = itertools.count(1)


class MemorySink:
    """Keeps output; optionally slow, to make the producer wait."""

    def __init__(self) -> None:
        self.stdout = b""
        self.stderr = b""
        self.gate: asyncio.Event | None = None
        self.arrived = asyncio.Event()

    async def write(self, stream: Stream, data: bytes) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if stream == "stdout":
            self.stdout += data
        else:
            self.stderr += data
        self.arrived.set()


@dataclass
class Place:
    """Somewhere commands run."""

    name: str
    executor: Executor
    target: dict[str, Any] | None
    sink: MemorySink = field(default_factory=MemorySink)
    cancel: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(
        self,
        rendered: Rendered,
        *,
        seconds: float = 30,
        read_only: bool = False,
        sink: Sink | None = None,
        attempt_id: str | None = None,
    ) -> Outcome:
        """Runs a command to its outcome."""
        call = Call(
            attempt_id=attempt_id or f"att_{os.getpid()}_{next(_numbers)}",
            rendered=rendered,
            target=self.target,
            timeout=timedelta(seconds=seconds),
            env={"TRACEPARENT": "00-1-2-01", "LD_PRELOAD": "/nowhere.so"},
            read_only=read_only,
        )
        return await self.executor.run(call, sink or self.sink, self.cancel)

    async def argv(self, *argv: str, **options: Any) -> Outcome:
        """Runs a program."""
        return await self.run(ArgvCommand(argv), **options)

    async def sh(self, body: str, *args: str, **options: Any) -> Outcome:
        """Runs a shell script."""
        return await self.run(ScriptCommand("sh", body, args), **options)


def target_of(server: SshServer, **changes: Any) -> dict[str, Any]:
    """Returns the TARGET of a test server."""
    return {
        "name": "web-01",
        "address": server.address,
        "port": server.port,
        "connection": "ssh",
        "credential": "tester",
        "host_keys": [server.host_key],
        **changes,
    }


def ssh_executor(server: SshServer, **options: Any) -> SshExecutor:
    """Returns an executor that can log in to a test server."""

    def credentials(name: str) -> Credential:
        if name != "tester":
            raise LookupError(f"no credential {name!r}")
        return Credential(username=server.username, private_key_file=str(server.client_key))

    times = {"grace": timedelta(seconds=1), "linger": timedelta(seconds=0.5), **options}
    return SshExecutor(credentials, **times)


@pytest.fixture(scope="session")
def openssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    if not SSHD:
        pytest.skip(INSTALL_HINT)
    with openssh_server(tmp_path_factory.mktemp("openssh")) as server:
        yield server


@pytest.fixture(params=["openssh", "standin"])
async def ssh_server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SshServer]:
    if request.param == "openssh":
        yield request.getfixturevalue("openssh")
        return
    async with standin_server(tmp_path / "standin") as server:
        yield server


@pytest.fixture(params=["local", "openssh", "standin"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param == "local":
        times = {"grace": timedelta(seconds=1), "linger": timedelta(seconds=0.5)}
        executor = LocalExecutor(**times)
        yield Place("local", executor, None)
        await executor.close()
        return
    if request.param == "openssh":
        server = request.getfixturevalue("openssh")
        remote = ssh_executor(server)
        yield Place("openssh", remote, target_of(server))
        await remote.close()
        return
    async with standin_server(tmp_path / "standin") as server:
        remote = ssh_executor(server)
        yield Place("standin", remote, target_of(server))
        await remote.close()


def marked_processes(attempt_id: str) -> list[int]:
    """Returns the live processes of an attempt, found without the product's own code."""
    mark = f"{MARKER}={attempt_id}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found
