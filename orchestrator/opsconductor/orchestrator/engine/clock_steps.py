"""Steps of the clock: noticed before anything is judged by it."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions.changing import replace
from opsconductor.orchestrator.domain.executions.clock import Clock
from opsconductor.rpc import ids

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Execution

LOG = logging.getLogger(__name__)

TOLERANCE = 1.0  # seconds
"""A clock that is only made to run faster or slower drifts by less between two looks."""


def boottime() -> float:
    """Returns seconds on a clock that never jumps and counts suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockSteps:
    """The time of day, held against a clock that nobody can set each time that it is looked at."""

    def __init__(self, clock: Callable[[], datetime], steady: Callable[[], float]) -> None:
        """Takes the time of day, and seconds on a clock that never jumps."""
        self._clock = clock
        self._steady = steady
        self.clock = Clock(ids.mint("clk", clock()))
        """The clock with all its steps so far."""
        self.on_step: Callable[[], None] = lambda: None
        """Called when the clock was found set; must not wait."""
        _, self._apart = self._look()

    def now(self) -> datetime:
        """Returns the time of day."""
        now, apart = self._look()
        by, self._apart = apart - self._apart, apart
        if abs(by) > TOLERANCE:
            LOG.warning("the clock was set %+.1f s: limits and waits stay as long as they were", by)
            self.clock = replace(self.clock, steps=(*self.clock.steps, timedelta(seconds=by)))
            self.on_step()
        return now

    def seen(self, state: Execution) -> Execution:
        """Returns an execution as it stands by the clock of now."""
        return state if state.clock is self.clock else replace(state, clock=self.clock)

    def _look(self) -> tuple[datetime, float]:
        """Returns the time of day, and how far it is ahead of the steady clock."""
        while True:
            before = self._steady()
            now = self._clock()
            # Whoever was frozen between two looks would take that for a step.
            if self._steady() - before < TOLERANCE / 2:
                return now, now.timestamp() - before
