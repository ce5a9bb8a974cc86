"""Rooms: how much more may run at an agent, in its segment and in its tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsconductor.orchestrator.domain.executions.place import AgentView


class Rooms:
    """Counts places down as they are given away."""

    def __init__(self, fleet: Sequence[AgentView]) -> None:
        self._agents = {agent.agent_id: agent.capacity - agent.running for agent in fleet}
        self._segments = {agent.segment: agent.segment_room for agent in fleet}
        self._tenant = min((agent.tenant_room for agent in fleet), default=0)
        self._ready = [agent for agent in fleet if agent.ready]

    def any(self) -> bool:
        """Tells whether any agent can take anything."""
        return any(self.left(agent) > 0 for agent in self._ready)

    def left(self, agent: AgentView) -> int:
        """Returns how much more an agent may take."""
        return min(self._agents[agent.agent_id], self._segments[agent.segment], self._tenant)

    def why_full(self, agents: Sequence[AgentView]) -> str:
        """Returns what is full when none of some agents may take more."""
        if self._tenant <= 0:
            return "under the limit of the tenant"
        full = sorted({item.segment for item in agents if self._segments[item.segment] <= 0})
        if full:
            return f"under the limit of segment {', '.join(full)}"
        return f"on {', '.join(sorted(item.name for item in agents))}"

    def own(self, agent: AgentView) -> int:
        """Returns how many places of an agent itself are free."""
        return self._agents[agent.agent_id]

    def take(self, agent: AgentView) -> None:
        """Gives one place of an agent away."""
        self._agents[agent.agent_id] -= 1
        self._segments[agent.segment] -= 1
        self._tenant -= 1
