"""Several orchestrators of one deployment: which one is in use, and what it looks like to stubs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import grpc

from opsconductor.rpc.errors import StoreUnavailable
from opsconductor.rpc.status import from_rpc_error
from opsconductor.rpc.transport import CallTimedOut, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opsconductor.rpc.errors import OpsConductorError

STAGGER_SECONDS = 0.3
"""Head start of one endpoint over the next while one is looked for."""
CONNECT_SECONDS = 10.0
"""How long an answer is looked for at all endpoints together."""
PROBE = "/grpc.health.v1.Health/Check"
"""What an endpoint is asked: a frozen process takes connections but answers nothing."""


class NoneAnswers(Unreachable):
    """No endpoint answered, so nothing was sent."""


@dataclass(slots=True)
class Endpoints:
    """Remembers the last endpoint that was good, and whether it has to be looked for anew.

    With a single endpoint there is nothing to choose: gRPC itself connects again.
    """

    names: Sequence[str]
    current: int = field(default=0, init=False)
    settled: bool = field(init=False)
    """Whether calls go to ``current`` without looking first."""

    def __post_init__(self) -> None:
        self.settled = len(self.names) < 2

    @property
    def name(self) -> str:
        """The endpoint in use."""
        return self.names[self.current]

    def order(self, failures: int) -> list[int]:
        """Returns where to look: the same endpoint first, after a second failure the next one."""
        count = len(self.names)
        first = self.current + max(0, failures - 1)
        return [(first + turn) % count for turn in range(count)]

    def use(self, index: int) -> None:
        """Notes an endpoint that answered."""
        self.current, self.settled = index, True

    def doubt(self, error: OpsConductorError) -> None:
        """Looks again before the next call when the endpoint could not answer."""
        if isinstance(error, Unreachable | StoreUnavailable):
            self.settled = len(self.names) < 2

    def none_answers(self, why: str) -> NoneAnswers:
        """Returns the error that no endpoint answered, with what one of them failed with."""
        text = f"none of the orchestrators {', '.join(self.names)} can be reached"
        return NoneAnswers(f"{text} ({why})" if why else text)


def why_no_answer(raised: Any) -> str:
    """Returns why a probe got no answer; empty when what it ended with is an orchestrator's."""
    if raised is None:
        return ""
    if not isinstance(raised, grpc.RpcError):
        return str(raised) or type(raised).__name__
    error = from_rpc_error(raised)
    if not isinstance(error, Unreachable | CallTimedOut):
        return ""
    return str(cast("grpc.Call", raised).details() or error.message)


class Switch:
    """Looks like a channel to stubs; each call goes out on the channel of the endpoint in use."""

    def __init__(self, channels: Sequence[Any], endpoints: Endpoints) -> None:
        self._channels = channels
        self._endpoints = endpoints

    def unary_unary(self, *words: Any, **options: Any) -> Callable[..., Any]:
        """Returns a method for single answers."""
        return self._method([each.unary_unary(*words, **options) for each in self._channels])

    def unary_stream(self, *words: Any, **options: Any) -> Callable[..., Any]:
        """Returns a method for streams of answers."""
        return self._method([each.unary_stream(*words, **options) for each in self._channels])

    def _method(self, methods: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
        def call(*words: Any, **options: Any) -> Any:
            return methods[self._endpoints.current](*words, **options)

        return call
