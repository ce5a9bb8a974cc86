"""Plans last as long as they were allowed to, whatever people do to the clocks (fault F17)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.states import ExecutionState
from opsconductor.orchestrator.engine.clock_steps import TOLERANCE

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.executions.execution import Execution

ROLLING_BACK = ExecutionState.ROLLING_BACK

SLACK = 3 * TOLERANCE
"""A step of the clock below the tolerance is not told, and there may be some."""


class Durations:
    """Knows when plans began by the time that really passes.

    Only as one life of an orchestrator judges what it began itself: whoever takes over, or starts
    again, has nothing but the time of day to go by.
    """

    def __init__(self) -> None:
        self._began: dict[str, tuple[float, int]] = {}

    def wrong(self, before: Execution, event: ev.Event, now: float, by: int) -> str:
        """Takes an event of an orchestrator's process; says what is wrong with its time."""
        if isinstance(event, ev.AttemptGranted):
            self._began.setdefault(before.execution_id, (now, by))
        if before.execution_id not in self._began:
            return ""
        began, its_process = self._began[before.execution_id]
        if its_process != by:
            return ""
        limit, lasted = before.compiled.timeout_ms / 1000, now - began
        if isinstance(event, ev.PlanTimedOut) and lasted < limit - SLACK:
            return f"its time of {limit:g} s is said to be over after {lasted:.1f} s"
        forward = isinstance(event, ev.AttemptGranted) and before.state is not ROLLING_BACK
        if forward and limit and lasted > limit + SLACK and not before.recovered:
            return f"a grant {lasted:.1f} s after it began, and it may take {limit:g} s"
        return ""
