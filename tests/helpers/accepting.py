"""Small servers inside a test, whose connections end with them.

``asyncio.Server.close`` leaves accepted connections to the garbage collector, and what that says of
them then counts against whichever test runs at that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def accepting(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Runs a server of streams on 127.0.0.1; yields its port."""
    transports: list[Any] = []

    async def tracked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transports.append(writer.transport)
        await serve(reader, writer)

    server = await asyncio.start_server(tracked, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await ended(transports)


async def ended(transports: Iterable[Any]) -> None:
    """Closes the sockets of transports, whatever their other side does."""
    for transport in transports:
        transport.abort()
    for _ in range(3):  # rounds of the loop in which it closes them, with TLS in between
        await asyncio.sleep(0)
