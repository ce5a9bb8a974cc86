"""How calls are made: repeated after a lost connection, streams resumed where they stopped."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc

from opsconductor.client.endpoints import (
    CONNECT_SECONDS,
    PROBE,
    STAGGER_SECONDS,
    Endpoints,
    NoneAnswers,
    Switch,
    why_no_answer,
)
from opsconductor.client.persistence import Persistence
from opsconductor.client.streams import StreamBroken
from opsconductor.rpc.status import from_rpc_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from opsconductor.rpc.errors import OpsConductorError

_Response = TypeVar("_Response")

TIMEOUT = timedelta(seconds=30)
"""How long one try of a call may take unless said otherwise."""


class Connection:
    """Asynchronous channels to the endpoints of one deployment, and the patience with them."""

    def __init__(
        self, channels: Mapping[str, grpc.aio.Channel], persistence: Persistence | None = None
    ) -> None:
        self._channels = list(channels.values())
        self._persistence = persistence or Persistence()
        self.endpoints = Endpoints(tuple(channels))
        self.channel = (
            self._channels[0]
            if len(self._channels) == 1
            else cast("grpc.aio.Channel", Switch(self._channels, self.endpoints))
        )
        """What stubs are made of."""

    async def close(self) -> None:
        """Closes all channels; running streams end."""
        for channel in self._channels:
            await channel.close()

    async def call(
        self,
        method: Callable[..., grpc.aio.UnaryUnaryCall[Any, _Response]],
        request: object,
        *,
        timeout: timedelta | None = TIMEOUT,
        deadline: timedelta | None = None,
        repeatable: bool = True,
    ) -> _Response:
        """Returns the answer to a call, made again while the server comes back if it may be.

        Args:
            method: A method of a stub.
            request: What it is asked.
            timeout: How long one try may take; None sets no limit.
            deadline: How long all tries together may take.
            repeatable: Whether the call may be made again when only its answer was lost.
        """
        episode = self._persistence.episode(deadline)
        while True:
            try:
                await self._settle(episode.failures)
                answer = await method(request, **episode.options(timeout, repeatable=repeatable))
            except NoneAnswers as nobody:
                error: OpsConductorError = nobody
            except grpc.RpcError as raised:
                error = self._lost(raised)
            else:
                episode.succeeded()
                return answer
            await asyncio.sleep(episode.delay_after(error, repeatable=repeatable))

    async def stream(
        self,
        ask: Callable[[], grpc.aio.UnaryStreamCall[Any, _Response]],
        accept: Callable[[_Response], bool],
    ) -> AsyncIterator[_Response]:
        """Yields the accepted messages of a stream, asked for again after a lost connection."""
        episode = self._persistence.episode()
        error: OpsConductorError
        call: grpc.aio.UnaryStreamCall[Any, _Response] | None = None
        while True:
            try:
                await self._settle(episode.failures)
                call = ask()
                async for message in call:
                    new = accept(message)
                    episode.succeeded()
                    if new:
                        yield message
                return
            except grpc.RpcError as raised:
                error = self._lost(raised)
            except (StreamBroken, NoneAnswers) as broken:
                self.endpoints.doubt(broken)
                error = broken
            finally:
                if call is not None:
                    call.cancel()
            await asyncio.sleep(episode.delay_after(error))

    def _lost(self, raised: grpc.RpcError) -> OpsConductorError:
        error = from_rpc_error(raised)
        self.endpoints.doubt(error)
        return error

    async def _settle(self, failures: int) -> None:
        """Looks for an endpoint that answers, unless one is known to."""
        if self.endpoints.settled:
            return
        order = self.endpoints.order(failures)
        found, why = await _first_answer([(index, self._channels[index]) for index in order])
        if found is None:
            raise self.endpoints.none_answers(why)
        self.endpoints.use(found)
        self._persistence.contacted = True


async def _first_answer(candidates: list[tuple[int, grpc.aio.Channel]]) -> tuple[int | None, str]:
    """Returns the first channel with an answer, else why there is none.

    Each has a head start over the next.
    """
    waiting = list(candidates)
    tasks: dict[asyncio.Task[str], int] = {}
    why = ""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            while waiting or tasks:
                if waiting:
                    index, channel = waiting.pop(0)
                    tasks[asyncio.create_task(_answers(channel))] = index
                done, _ = await asyncio.wait(
                    tasks,
                    timeout=STAGGER_SECONDS if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in [task for task in tasks if task in done]:
                    index = tasks.pop(task)
                    why = task.result()
                    if not why:
                        return index, ""
    except TimeoutError:
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return None, why


async def _answers(channel: grpc.aio.Channel) -> str:
    """Returns why no orchestrator answers; empty when one does, whatever it says."""
    try:
        probe: Any = channel.unary_unary(PROBE)
        await probe(b"", timeout=CONNECT_SECONDS)
    except grpc.RpcError as raised:
        return why_no_answer(raised)
    return ""
