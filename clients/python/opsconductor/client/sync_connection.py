"""How synchronous calls are made; the rules are those of ``connection``."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc

from opsconductor.client.connection import TIMEOUT
from opsconductor.client.persistence import Persistence
from opsconductor.client.streams import StreamBroken
from opsconductor.rpc.status import from_rpc_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from opsconductor.rpc.errors import OpsConductorError

_Response = TypeVar("_Response")
_Message = TypeVar("_Message", covariant=True)


class RunningStream(Protocol[_Message]):
    """A stream that was asked for."""

    def __iter__(self) -> Iterator[_Message]: ...

    def cancel(self) -> object:
        """Ends it."""


@dataclass(slots=True)
class SyncConnection:
    """A synchronous channel and the patience with it."""

    channel: grpc.Channel
    persistence: Persistence = field(default_factory=Persistence)

    def call(
        self,
        method: Callable[..., _Response],
        request: object,
        *,
        timeout: timedelta | None = TIMEOUT,
        repeatable: bool = True,
    ) -> _Response:
        """Returns the answer to a call, made again while the server comes back if it may be."""
        episode = self.persistence.episode()
        while True:
            try:
                answer = method(request, timeout=timeout and timeout.total_seconds())
            except grpc.RpcError as raised:
                error = from_rpc_error(raised)
            else:
                episode.succeeded()
                return answer
            if not repeatable:
                raise error
            time.sleep(episode.delay_after(error))

    def stream(
        self,
        ask: Callable[[], RunningStream[_Response]],
        accept: Callable[[_Response], bool],
    ) -> Iterator[_Response]:
        """Yields the accepted messages of a stream, asked for again after a lost connection."""
        episode = self.persistence.episode()
        error: OpsConductorError
        while True:
            call = ask()
            try:
                for message in call:
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
            time.sleep(episode.delay_after(error))
