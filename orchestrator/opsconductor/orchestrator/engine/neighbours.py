"""Neighbours: brings what is kept in memory up to what other orchestrators have changed."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions.states import SessionState
from opsconductor.orchestrator.engine.roster import member_of, refresh

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.engine.fleet import Fleet, Member
    from opsconductor.orchestrator.engine.planning import Planner
    from opsconductor.orchestrator.engine.replica import Replica
    from opsconductor.orchestrator.engine.restoring import Restoring
    from opsconductor.orchestrator.store.rows import AgentRow, ReplicaRow
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)


class Neighbours:
    """Keeps the fleet true to what happens at other orchestrators."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        restoring: Restoring,
        planner: Planner,
        replica: Replica,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._restoring = restoring
        self._planner = planner
        self._replica = replica
        self._clock = clock
        self._versions: dict[str, int] = {}
        self._addresses: set[str] = set()

    async def look(self, replicas: Sequence[ReplicaRow]) -> None:
        """Takes in who is there, and what they changed since the last look."""
        own_id = self._replica.replica_id
        self._learn_addresses(replicas, own_id)
        versions = {row.replica_id: row.version for row in replicas}
        versions.pop(own_id, None)
        if versions != self._versions:
            whole = await self._read_agents(own_id)
            self._planner.forget_assets()
            self._versions = versions if whole else {}
        load = await self._store.load(own_id)
        self._fleet.held_elsewhere(load.holds)
        for member in self._fleet.members():
            member.running_elsewhere = load.attempts.get(member.agent_id, 0)

    def _learn_addresses(self, replicas: Sequence[ReplicaRow], own_id: str) -> None:
        """Notes where all are reached; agents are told of a new place when they connect again."""
        addresses = {row.address for row in replicas if row.address}
        self._replica.endpoints = tuple(sorted(addresses)) if len(addresses) > 1 else ()
        unknown = addresses - self._addresses
        others = {row.address for row in replicas if row.replica_id != own_id}
        first_look, self._addresses = not self._addresses, self._addresses | addresses
        # One orchestrator is enough to tell all agents: that which is there for the longest.
        if first_look or not unknown & others or min(row.replica_id for row in replicas) != own_id:
            return
        for member in self._fleet.members():
            if member.session is not None:
                member.session.close("another orchestrator is there: connect again to learn where")

    async def _read_agents(self, own_id: str) -> bool:
        """Reads every agent anew; False when some were changed here meanwhile."""
        whole = True
        changes = {member.agent_id: member.changes for member in self._fleet.members()}
        sessions: defaultdict[str, dict[str, SessionState]] = defaultdict(dict)
        for row in await self._store.sessions():
            if row.replica_id != own_id:
                sessions[row.agent_id][row.replica_id] = SessionState(row.state)
        for agent in await self._store.agents():
            member = self._fleet.get(agent.agent_id)
            if member is None:
                member = member_of(agent)
                self._fleet.add(member)
            member.elsewhere, before = sessions[agent.agent_id], member.elsewhere
            if before or member.elsewhere:
                # Also at its end: silence counts from when nobody hears it any more.
                member.last_seen, member.heard_at = self._clock(), self._replica.boottime()
            if changes.get(agent.agent_id, 0) == member.changes:
                self._take(member, agent)
            else:
                whole = False
        await self._restoring.load()
        return whole

    def _take(self, member: Member, row: AgentRow) -> None:
        refresh(member, row)
        if member.session is None:
            known = member_of(row)
            member.version, member.capacity = known.version, known.capacity
            member.services, member.methods = known.services, known.methods
            member.labels = known.labels
        elif member.quarantined:
            member.session.close(f"quarantined: {member.quarantined}")
