"""Dispatch: tells agents what was committed. Everything it sends may be sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.states import ExecutionState
from opsconductor.orchestrator.engine.assignments import assignment
from opsconductor.rpc.failpoints import hit

if TYPE_CHECKING:
    from collections.abc import Container

    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution
    from opsconductor.orchestrator.engine.fleet import Fleet


class Dispatch:
    """Sends assignments and cancels to the agents that are connected."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def send(self, state: Execution, attempt: Attempt) -> None:
        """Sends a granted attempt to its agent, if that is connected."""
        member = self._fleet.get(attempt.agent_id)
        if member and member.session:
            member.session.assign(assignment(state, attempt))

    def cancel(self, state: Execution) -> None:
        """Takes back or ends whatever of an execution agents may be at."""
        hit("cancel.after_commit")
        for attempt in state.live_attempts():
            member = self._fleet.get(attempt.agent_id)
            if member and member.session:
                member.session.cancel(attempt.attempt_id, state.reason)

    def resume(self, state: Execution, told: Container[str] = ()) -> None:
        """Sends what agents may not have been told: the grants, or that they are taken back.

        Args:
            state: An execution as the store has it.
            told: Attempts that need no second word.
        """
        if ending(state):
            # Never sent again first: it could start before the cancel arrives.
            self.cancel(state)
            return
        for attempt in state.live_attempts():
            if attempt.attempt_id not in told:
                self.send(state, attempt)


def takes_back(state: Execution, event: ev.Event) -> bool:
    """Tells whether agents have to be told to end what they do after an event."""
    if isinstance(event, ev.AttemptGranted):  # found in a journal
        return ending(state)
    return isinstance(event, ev.CancelRequested | ev.PlanTimedOut)


def ending(state: Execution) -> bool:
    """Tells whether attempts of an execution are to be ended rather than started."""
    return state.state is ExecutionState.CANCELLING or state.stopping == "timeout"
