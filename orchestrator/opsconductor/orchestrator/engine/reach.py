"""Reach: which agents an execution needs and only another orchestrator talks with."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.place import able, ready_steps
from opsconductor.orchestrator.domain.states import AttemptState, SessionState
from opsconductor.orchestrator.engine.dispatch import ending

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from opsconductor.orchestrator.domain.execution import Execution
    from opsconductor.orchestrator.engine.fleet import Fleet, Member


def better_placed(state: Execution, fleet: Fleet, now: datetime) -> str:
    """Returns the orchestrator that can do for an execution what cannot be done from here.

    Empty while everything that has to be said can be said from here, or nowhere.
    """
    wanted = [*_to_be_told(state, fleet), *_to_be_asked(state, fleet, now)]
    votes = Counter(
        replica_id
        for member in wanted
        for replica_id, session in member.elsewhere.items()
        if session is SessionState.ONLINE
    )
    return max(votes, key=lambda replica_id: (votes[replica_id], replica_id), default="")


def _to_be_told(state: Execution, fleet: Fleet) -> Iterable[Member]:
    """Returns the agents that may not know what they were granted, or that it is taken back."""
    for attempt in state.live_attempts():
        member = fleet.get(attempt.agent_id)
        if member is None or member.session is not None:
            continue
        if attempt.state is AttemptState.GRANTED or ending(state):
            yield member


def _to_be_asked(state: Execution, fleet: Fleet, now: datetime) -> Iterable[Member]:
    """Returns the agents for steps that nobody who is connected here could run."""
    members = [m for m in fleet.members() if m.tenant == state.tenant and not m.quarantined]
    for step in ready_steps(state, now):
        fitting = [member for member in members if able(step.demand, member.view())]
        if not any(member.session is not None for member in fitting):
            yield from fitting
