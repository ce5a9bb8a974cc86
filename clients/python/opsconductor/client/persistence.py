"""How long a client keeps trying when a connection it had is lost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import StoreUnavailable
from opsconductor.rpc.transport import TransportError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsconductor.rpc.errors import OpsConductorError

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
    contacted: bool = False

    def episode(self) -> Episode:
        """Begins to watch one call or stream."""
        return Episode(self)


@dataclass(slots=True)
class Episode:
    """The failures of one call since its last success."""

    persistence: Persistence
    _failing_since: float | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)

    def succeeded(self) -> None:
        """Notes an answer; later failures start to count anew."""
        self.persistence.contacted = True
        self._failing_since, self._failures = None, 0

    def delay_after(self, error: OpsConductorError) -> float:
        """Returns the seconds to wait before the next try; raises the error when it is final."""
        if not isinstance(error, TransportError):
            self.persistence.contacted = True
        if not isinstance(error, Unreachable | StoreUnavailable) or not self.persistence.contacted:
            raise error
        now = self.persistence.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        delay = min(_FIRST_SECONDS * 2.0**self._failures, _LONGEST_SECONDS)
        if now + delay - self._failing_since > self.persistence.limit.total_seconds():
            raise error
        self._failures += 1
        return delay
