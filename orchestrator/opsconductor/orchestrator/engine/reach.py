"""Reach: which agents an execution needs and only another orchestrator talks with."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions.place import able, ready_steps
from opsconductor.orchestrator.domain.executions.states import AttemptState, SessionState
from opsconductor.orchestrator.engine.dispatch import ending

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.domain.executions.place import ReadyStep
    from opsconductor.orchestrator.engine.fleet import Fleet, Member


def better_placed(state: Execution, fleet: Fleet, now: datetime) -> str:
    """Returns the orchestrator that can do for an execution what cannot be done from here.

    Empty while everything that has to be said can be said from here, or nowhere.
    """
    steps = ready_steps(state, now)
    return _most([*_to_be_told(state, fleet), *_to_be_asked(state.tenant, steps, fleet)])


def closer_to(tenant: str, steps: Iterable[ReadyStep], fleet: Fleet) -> str:
    """Returns the orchestrator that can ask somebody to run some steps, if only others can."""
    return _most(_to_be_asked(tenant, steps, fleet))


def _most(wanted: Iterable[Member]) -> str:
    """Returns the orchestrator that talks with most of some agents; empty when none does."""
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


def _to_be_asked(tenant: str, steps: Iterable[ReadyStep], fleet: Fleet) -> Iterable[Member]:
    """Returns the agents for steps that nobody who is connected here could run."""
    members = [m for m in fleet.members() if m.tenant == tenant and not m.quarantined]
    for step in steps:
        fitting = [member for member in members if able(step.demand, member.view())]
        if not any(member.session is not None for member in fitting):
            yield from fitting
