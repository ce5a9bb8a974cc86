"""How calls are made: repeated after a lost connection, streams resumed where they stopped."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from opsconductor.client.persistence import Persistence
from opsconductor.client.streams import StreamBroken
from opsconductor.rpc.status import from_rpc_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from opsconductor.rpc.errors import OpsConductorError

_Response = TypeVar("_Response")

TIMEOUT = timedelta(seconds=30)
"""How long a call may take unless said otherwise."""


@dataclass(slots=True)
class Connection:
    """An asynchronous channel and the patience with it."""

    channel: grpc.aio.Channel
    persistence: Persistence = field(default_factory=Persistence)

    async def call(
        self,
        method: Callable[..., grpc.aio.UnaryUnaryCall[Any, _Response]],
        request: object,
        *,
        timeout: timedelta | None = TIMEOUT,
        repeatable: bool = True,
    ) -> _Response:
        """Returns the answer to a call, made again while the server comes back if it may be."""
        episode = self.persistence.episode()
        while True:
            try:
                answer = await method(request, timeout=timeout and timeout.total_seconds())
            except grpc.RpcError as raised:
                error = from_rpc_error(raised)
            else:
                episode.succeeded()
                return answer
            if not repeatable:
                raise error
            await asyncio.sleep(episode.delay_after(error))

    async def stream(
        self,
        ask: Callable[[], grpc.aio.UnaryStreamCall[Any, _Response]],
        accept: Callable[[_Response], bool],
    ) -> AsyncIterator[_Response]:
        """Yields the accepted messages of a stream, asked for again after a lost connection."""
        episode = self.persistence.episode()
        error: OpsConductorError
        while True:
            call = ask()
            try:
                async for message in call:
                    new = accept(message)
                    episode.succeeded()
                    if new:
                        yield message
                return
            except grpc.RpcError as raised:
                error = from_rpc_error(raised)
            except StreamBroken as broken:
                error = broken
            finally:
                call.cancel()
            await asyncio.sleep(episode.delay_after(error))
