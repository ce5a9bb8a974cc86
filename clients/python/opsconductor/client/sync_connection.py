"""How synchronous calls are made; the rules are those of ``connection``."""

from __future__ import annotations

import queue
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import grpc

from opsconductor.client.connection import TIMEOUT
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
    from collections.abc import Callable, Iterator, Mapping
    from datetime import timedelta

    from opsconductor.rpc.errors import OpsConductorError

_Response = TypeVar("_Response")
_Message = TypeVar("_Message", covariant=True)


class RunningStream(Protocol[_Message]):
    """A stream that was asked for."""

    def __iter__(self) -> Iterator[_Message]: ...

    def cancel(self) -> object:
        """Ends it."""


class SyncConnection:
    """Synchronous channels to the endpoints of one deployment, and the patience with them."""

    def __init__(
        self, channels: Mapping[str, grpc.Channel], persistence: Persistence | None = None
    ) -> None:
        self._channels = list(channels.values())
        self._persistence = persistence or Persistence()
        self.endpoints = Endpoints(tuple(channels))
        self.channel = (
            self._channels[0]
            if len(self._channels) == 1
            else cast("grpc.Channel", Switch(self._channels, self.endpoints))
        )
        """What stubs are made of."""

    def close(self) -> None:
        """Closes all channels; running streams end."""
        for channel in self._channels:
            channel.close()

    def call(
        self,
        method: Callable[..., _Response],
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
                self._settle(episode.failures)
                answer = method(request, **episode.options(timeout, repeatable=repeatable))
            except NoneAnswers as nobody:
                error: OpsConductorError = nobody
            except grpc.RpcError as raised:
                error = self._lost(raised)
            else:
                episode.succeeded()
                return answer
            time.sleep(episode.delay_after(error, repeatable=repeatable))

    def stream(
        self,
        ask: Callable[[], RunningStream[_Response]],
        accept: Callable[[_Response], bool],
    ) -> Iterator[_Response]:
        """Yields the accepted messages of a stream, asked for again after a lost connection."""
        episode = self._persistence.episode()
        error: OpsConductorError
        call: RunningStream[_Response] | None = None
        while True:
            try:
                self._settle(episode.failures)
                call = ask()
                for message in call:
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
            time.sleep(episode.delay_after(error))

    def _lost(self, raised: grpc.RpcError) -> OpsConductorError:
        error = from_rpc_error(raised)
        self.endpoints.doubt(error)
        return error

    def _settle(self, failures: int) -> None:
        """Looks for an endpoint that answers, unless one is known to."""
        if self.endpoints.settled:
            return
        order = self.endpoints.order(failures)
        found, why = _first_answer([(index, self._channels[index]) for index in order])
        if found is None:
            raise self.endpoints.none_answers(why)
        self.endpoints.use(found)
        self._persistence.contacted = True


def _first_answer(candidates: list[tuple[int, grpc.Channel]]) -> tuple[int | None, str]:
    """Returns the first channel with an answer, else why there is none.

    Each has a head start over the next.
    """
    news: queue.Queue[tuple[int, grpc.Future[bytes]]] = queue.Queue()
    waiting = list(candidates)
    asked: dict[int, grpc.Future[bytes]] = {}
    deadline = time.monotonic() + CONNECT_SECONDS
    turn, why = 0.0, ""
    try:
        while (waiting or asked) and (now := time.monotonic()) < deadline:
            if waiting and (now >= turn or not asked):
                index, channel = waiting.pop(0)
                asked[index] = _ask(channel, index, news)
                turn = now + STAGGER_SECONDS
            until = min(turn, deadline) if waiting else deadline
            with suppress(queue.Empty):
                index, ended = news.get(timeout=max(0.0, until - time.monotonic()))
                del asked[index]
                why = why_no_answer(ended.exception())
                if not why:
                    return index, ""
    finally:
        for call in asked.values():
            call.cancel()
    return None, why


def _ask(
    channel: grpc.Channel, index: int, news: queue.Queue[tuple[int, grpc.Future[bytes]]]
) -> grpc.Future[bytes]:
    probe: Any = channel.unary_unary(PROBE)
    call: grpc.Future[bytes] = probe.future(b"", timeout=CONNECT_SECONDS)
    call.add_done_callback(lambda ended: news.put((index, ended)))
    return call
