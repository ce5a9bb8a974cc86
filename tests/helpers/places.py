"""The places a test can run commands at, each with an executor and a target."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.sshd import SshServer
from opsconductor.agent.executors.base import MARKER, Call, Outcome
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.ssh.executor import SshExecutor
from opsconductor.tool_registry.rendering.rendered import ArgvCommand, Rendered, ScriptCommand

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers.sshd import SshServer
    from opsconductor.agent.executors.base import Executor, Sink, Stream
    from opsconductor.agent.executors.local.run_folder import RunFolders

_numbers = itertools.count(1)


def new_attempt() -> str:
    """Returns an attempt id nobody else has."""
    return f"att_{os.getpid()}_{time.time_ns()}_{next(_numbers)}"


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
    runs: RunFolders | None = None
    """Where changes are supervised; None runs them directly."""

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
        attempt_id = attempt_id or new_attempt()
        call = Call(
            attempt_id=attempt_id,
            rendered=rendered,
            target=self.target,
            timeout=timedelta(seconds=seconds),
            env={"TRACEPARENT": "00-1-2-01", "LD_PRELOAD": "/nowhere.so"},
            read_only=read_only,
            folder=self.runs.of(attempt_id) if self.runs is not None and not read_only else None,
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


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Waits for a condition; fails when it does not come true in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions of other processes
            await asyncio.sleep(0.02)
