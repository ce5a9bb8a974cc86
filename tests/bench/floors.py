"""Floors: what the same machine needs for the parts that every job is made of."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import asyncssh
import grpc

from bench.measure import median, times

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bench.ssh_targets import SshTargets


async def grpc_round_trip(samples: int) -> float:
    """Returns the median seconds of 200 bytes there and back on one open stream."""

    async def echo(messages: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        async for message in messages:
            yield message

    server = grpc.aio.server()
    handler: Any = grpc.stream_stream_rpc_method_handler(echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.stream_stream("/bench.Echo/Echo")()

            async def there_and_back() -> None:
                await call.write(b"x" * 200)
                await call.read()

            await times(there_and_back, 20)
            taken = await times(there_and_back, samples)
            await call.done_writing()
            return median(taken)
    finally:
        await server.stop(None)


def sqlite_commit(folder: Path, samples: int) -> float:
    """Returns the median seconds of one durable row: WAL, synchronous=FULL."""
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE event (id INTEGER PRIMARY KEY, data BLOB)")
    taken = []
    for number in range(samples):
        start = time.perf_counter()
        connection.execute("INSERT INTO event VALUES (?, ?)", (number, b"x" * 200))
        taken.append(time.perf_counter() - start)
    connection.close()
    return median(taken)


def synced_append(folder: Path, samples: int) -> float:
    """Returns the median seconds of one record appended and flushed with fdatasync."""
    taken = []
    with (folder / "floor.log").open("wb", buffering=0) as file:
        for _ in range(samples):
            start = time.perf_counter()
            file.write(b"x" * 200)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - start)
    return median(taken)


def process(samples: int) -> float:
    """Returns the median seconds of one process that does nothing: posix_spawn and waitpid."""
    taken = []
    for _ in range(samples):
        start = time.perf_counter()
        pid = os.posix_spawn("/bin/true", ["true"], os.environ)
        os.waitpid(pid, 0)
        taken.append(time.perf_counter() - start)
    return median(taken)


async def bare_asyncssh(targets: SshTargets) -> tuple[float, float]:
    """Returns the seconds of ``echo ok`` on every host: connecting first, and connected."""

    async def connect(address: str) -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            address,
            targets.port,
            username=targets.username,
            client_keys=[str(targets.client_key)],
            known_hosts=None,
            config=None,
            agent_path=None,
        )

    async def cold(address: str) -> asyncssh.SSHClientConnection:
        connection = await connect(address)
        await connection.run("echo ok", check=True)
        return connection

    start = time.perf_counter()
    connections = await asyncio.gather(*map(cold, targets.addresses))
    middle = time.perf_counter()
    await asyncio.gather(*(each.run("echo ok", check=True) for each in connections))
    end = time.perf_counter()
    for connection in connections:
        connection.close()
    await asyncio.gather(*(each.wait_closed() for each in connections))
    return middle - start, end - middle
