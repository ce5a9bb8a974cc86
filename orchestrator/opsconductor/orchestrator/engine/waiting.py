"""Steps that are ready and have no agent yet: why each waits, and whose turn comes next."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.place import place, ready_steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from opsconductor.orchestrator.domain.execution import Execution
    from opsconductor.orchestrator.domain.place import ReadyStep
    from opsconductor.orchestrator.engine.fleet import Fleet

NOT_ITS_TURN = "waits for its turn"


class Waiting:
    """Ready steps without an agent, by execution."""

    def __init__(self) -> None:
        self._reasons: dict[str, dict[str, str]] = {}

    def __bool__(self) -> bool:
        """Tells whether anything waits."""
        return bool(self._reasons)

    def others(self, execution_id: str) -> bool:
        """Tells whether anything of other executions waits."""
        return any(known != execution_id for known in self._reasons)

    def passed_over(self, execution_id: str) -> bool:
        """Tells whether a step of an execution waits only because others come first."""
        return NOT_ITS_TURN in self.reasons(execution_id).values()

    def reasons(self, execution_id: str) -> Mapping[str, str]:
        """Returns why each waiting step of an execution waits."""
        return self._reasons.get(execution_id, {})

    def put(self, execution_id: str, reasons: Mapping[str, str]) -> None:
        """Replaces what waits of an execution."""
        if reasons:
            self._reasons[execution_id] = dict(reasons)
        else:
            self._reasons.pop(execution_id, None)

    def next_turns(
        self, states: Iterable[Execution], fleet: Fleet, now: datetime
    ) -> dict[str, set[str]]:
        """Returns the steps that would get an agent now by execution, most urgent first."""
        ready: defaultdict[str, list[ReadyStep]] = defaultdict(list)
        for state in states:
            if state.execution_id in self._reasons:
                ready[state.tenant] += ready_steps(state, now)
        turns: defaultdict[str, set[str]] = defaultdict(set)
        for tenant, items in ready.items():
            placement = place(items, fleet.views(tenant), fleet.holds)
            for grant in placement.grants:
                turns[grant.step.execution_id].add(grant.step.step_id)
            for step, reason in placement.waiting:
                if step.execution_id in self._reasons:
                    self._reasons[step.execution_id][step.step_id] = reason
        return turns
