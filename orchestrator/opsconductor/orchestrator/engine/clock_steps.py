"""Steps of the clock: noticed at once, and told to every execution whose waiting would change."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions.advance import clock_stepped
from opsconductor.rpc import ids

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions import events as ev
    from opsconductor.orchestrator.domain.executions.execution import Execution

LOG = logging.getLogger(__name__)

TOLERANCE = 1.0  # seconds
"""A clock that is only made to run faster or slower drifts by less between two looks."""


def boottime() -> float:
    """Returns seconds on a clock that never jumps and counts suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockSteps:
    """The time of day, held against a clock that nobody can set.

    What was open when the clock was set is owed the news until it is written. An execution that is
    taken over, or read after a restart, is taken as it stands: what happened to the clock while no
    process looked, nobody can tell from the time that passed.
    """

    def __init__(self, clock: Callable[[], datetime], steady: Callable[[], float]) -> None:
        """Takes the time of day, and seconds on a clock that never jumps."""
        self._clock = clock
        self._steady = steady
        self._name = ids.mint("clk", clock())
        self._steps: list[timedelta] = []
        self._owed: dict[str, int] = {}
        self.on_step: Callable[[], Collection[str]] = lambda: ()
        """Called when the clock is found set; must not wait. Returns the executions that may be
        waiting for a time, each of which is given a turn."""
        _, self._apart = self._look()

    def now(self) -> datetime:
        """Returns the time of day."""
        now, apart = self._look()
        by, self._apart = apart - self._apart, apart
        if abs(by) > TOLERANCE:
            concerned = self.on_step()
            LOG.warning("the clock was set %+.1f s: %d executions look again", by, len(concerned))
            for execution_id in concerned:
                self._owed.setdefault(execution_id, self.count)
            self._steps.append(timedelta(seconds=by))
        return now

    @property
    def count(self) -> int:
        """How many steps there were."""
        return len(self._steps)

    def owes(self, execution_id: str) -> bool:
        """Tells whether an execution was not told yet."""
        return execution_id in self._owed

    def owed(self, state: Execution) -> Sequence[ev.Event]:
        """Returns what an execution has to be told before anything is judged by the time."""
        first = self._owed.get(state.execution_id)
        if first is None:
            return ()
        name, _, told = state.clock_mark.rpartition("/")
        if name == self._name:  # written after all, though nobody heard that it was
            first = max(first, int(told))
        steps = self._steps[first:]
        mark = f"{self._name}/{self.count}"
        return clock_stepped(state, sum(steps, timedelta()), mark) if steps else ()

    def told(self, execution_id: str, steps: int) -> None:
        """Notes that an execution has been told of so many steps, counted from the first."""
        if steps >= self.count:
            self._owed.pop(execution_id, None)
        elif execution_id in self._owed:
            self._owed[execution_id] = max(self._owed[execution_id], steps)

    def _look(self) -> tuple[datetime, float]:
        """Returns the time of day, and how far it is ahead of the steady clock."""
        while True:
            before = self._steady()
            now = self._clock()
            # Whoever was frozen between two looks would take that for a step.
            if self._steady() - before < TOLERANCE / 2:
                return now, now.timestamp() - before
