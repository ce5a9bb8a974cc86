"""How long a client keeps trying when a connection it had is lost."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.client.endpoints import NoneAnswers
from opsconductor.rpc.errors import StoreUnavailable
from opsconductor.rpc.transport import TransportError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsconductor.rpc.errors import OpsConductorError

REPEATED = "repeated"
"""Key in an error's metadata: an earlier try of the call may have been carried out."""

_NOT_CONNECTED = "failed to connect"
"""gRPC's words for a call that found no connection and so never left."""
_FIRST_SECONDS = 0.1
_LONGEST_SECONDS = 2.0


@dataclass(slots=True)
class Persistence:
    """Decides whether a call is made again.

    A server that never answered is reported at once: the address is wrong or nothing runs there.
    One that did answer is given time to come back, since every repeated call is idempotent.
    """

    limit: timedelta = timedelta(minutes=2)
    monotonic: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    """Spreads the tries of many clients over the whole of each delay."""
    contacted: bool = False

    def episode(self, deadline: timedelta | None = None) -> Episode:
        """Begins to watch one call or stream, which may take so long altogether."""
        if deadline is None:
            return Episode(self)
        return Episode(self, self.monotonic() + deadline.total_seconds())


@dataclass(slots=True)
class Episode:
    """The failures of one call since its last success."""

    persistence: Persistence
    _deadline: float | None = None
    failures: int = field(default=0, init=False)
    _failing_since: float | None = field(default=None, init=False)
    _lost: bool = field(default=False, init=False)

    def options(self, timeout: timedelta | None, *, repeatable: bool) -> dict[str, Any]:
        """Returns how the next try is made: its time, and whether it waits for a connection.

        A call that may be sent only once waits for the connection instead of failing without one.
        """
        limits = [] if timeout is None else [timeout.total_seconds()]
        if self._deadline is not None:
            limits.append(max(0.0, self._deadline - self.persistence.monotonic()))
        options: dict[str, Any] = {"timeout": min(limits, default=None)}
        if not repeatable and self.persistence.contacted:
            options["wait_for_ready"] = True
        return options

    def succeeded(self) -> None:
        """Notes an answer; later failures start to count anew."""
        self.persistence.contacted = True
        self._failing_since, self.failures = None, 0

    def delay_after(self, error: OpsConductorError, *, repeatable: bool = True) -> float:
        """Returns the seconds to wait before the next try; raises the error when it is final.

        A final answer to a call whose earlier try was lost carries ``REPEATED`` in its metadata.
        """
        if not isinstance(error, TransportError):
            self.persistence.contacted = True
        if self._lost:
            error.metadata[REPEATED] = "true"
        if not isinstance(error, Unreachable | StoreUnavailable):
            raise error
        unsent = isinstance(error, NoneAnswers)
        if not (repeatable or unsent):
            raise _left_open(error)
        if not self.persistence.contacted:
            raise error
        self._lost = self._lost or not unsent
        return self._delay(error)

    def _delay(self, error: OpsConductorError) -> float:
        now = self.persistence.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        longest = min(_FIRST_SECONDS * 2.0**self.failures, _LONGEST_SECONDS)
        delay = longest * self.persistence.chance()
        end = self._failing_since + self.persistence.limit.total_seconds()
        if now + delay > (end if self._deadline is None else min(end, self._deadline)):
            raise error
        self.failures += 1
        return delay


def is_open(error: OpsConductorError) -> bool:
    """Tells whether a call that ended with an error may have been carried out all the same."""
    if not isinstance(error, TransportError | StoreUnavailable):
        return False
    sent = not isinstance(error, NoneAnswers) and _NOT_CONNECTED not in error.message
    return sent or REPEATED in error.metadata


def _left_open(error: OpsConductorError) -> OpsConductorError:
    """Returns the error of a call that may have been carried out and is not made again."""
    if not is_open(error):
        return error
    text = f"{error.message}; it may have been carried out all the same: look before repeating it"
    return type(error)(text, metadata=error.metadata, retry_after=error.retry_after)
