"""Keeping agents, and tools of agents, from work until an operator says otherwise."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opsconductor.orchestrator.engine.roster import facts_of
from opsconductor.orchestrator.store.base import ChangeAgent
from opsconductor.rpc.errors import DuplicateAgent, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opsconductor.orchestrator.engine.fleet import Member
    from opsconductor.orchestrator.engine.messages import Introduction
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

CRASHES_ALLOWED = 2
"""After so many crashes of an agent in a row with a tool at work, it is given that tool no more."""
INSTANCES_KEPT = 16


class Keeping:
    """Quarantines and releases; everything is in the store before it counts as done."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def drain(self, member: Member, *, undo: bool) -> None:
        """Stops or resumes new work for an agent."""
        member.draining = not undo
        await self._store.commit(ChangeAgent(member.agent_id, draining=member.draining))

    async def quarantine(self, member: Member, reason: str) -> None:
        """Keeps an agent out: its session ends, and it gets no other before it is released."""
        LOG.error("agent %s is quarantined: %s", member.name, reason)
        member.quarantined = reason
        if member.session is not None:
            member.session.close(f"quarantined: {reason}")
        await self._store.commit(
            ChangeAgent(member.agent_id, quarantined=True, facts=facts_of(member))
        )

    async def release(self, member: Member, tool: str = "") -> None:
        """Lets an agent, or one tool of it, back into work. Raises NotFound for another tool."""
        if tool:
            if tool not in member.kept_tools:
                raise NotFound(f"tool {tool} is not quarantined on agent {member.name}")
            member.kept_tools.pop(tool)
            member.crashes.pop(tool, None)
            await self._remember(member)
            return
        member.quarantined = ""
        member.kept_tools, member.crashes = {}, {}
        # Whoever comes first is the one, and its journal is the one it has.
        member.instances, member.journal_id = [], ""
        change = ChangeAgent(
            member.agent_id, quarantined=False, journal_id="", facts=facts_of(member)
        )
        await self._store.commit(change)

    async def check_instance(self, member: Member, said: Introduction) -> bool:
        """Notes which process of an agent this is; tells whether the one before died by itself.

        A process whose machine was restarted did not: the machine ended it.

        Raises:
            DuplicateAgent: It was replaced by a newer process and is there again, so two of them
                share one identity. Neither is let in any more.
        """
        seen = member.instances
        if not said.instance_id or (seen and seen[-1] == said.instance_id):
            return False
        if said.instance_id in seen:
            reason = (
                "two processes use its identity at once: it was copied. Stop one of them, then "
                f"`opsctl agents release {member.name}`"
            )
            await self.quarantine(member, reason)
            raise DuplicateAgent(f"agent {member.name} is quarantined: {reason}")
        member.instances = [*seen, said.instance_id][-INSTANCES_KEPT:]
        return bool(seen) and member.boot_id == said.boot_id

    async def crashed(self, member: Member, tools: Iterable[str]) -> None:
        """Counts a crash of an agent against the tools it had at work."""
        found = set(tools)
        for tool in found:
            member.crashes[tool] = member.crashes.get(tool, 0) + 1
            if member.crashes[tool] >= CRASHES_ALLOWED and tool not in member.kept_tools:
                reason = (
                    f"the agent died {member.crashes[tool]} times in a row while it ran {tool}; "
                    f"`opsctl agents release {member.name} --tool {tool}` lets it run again"
                )
                member.kept_tools[tool] = reason
                LOG.error("agent %s: tool %s is quarantined: %s", member.name, tool, reason)
        if found:
            await self._remember(member)

    async def completed(self, member: Member, tool: str) -> None:
        """Notes that a tool does not make an agent crash after all."""
        if member.crashes.pop(tool, None):
            await self._remember(member)

    async def _remember(self, member: Member) -> None:
        await self._store.commit(ChangeAgent(member.agent_id, facts=facts_of(member)))
