"""Keeping agents, and tools of agents, from work until an operator says otherwise."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.engine.roster import (
    DIED,
    INSTANCES,
    JOURNAL_LOST_IN,
    KEPT_TOOLS,
    QUARANTINE,
)
from opsconductor.orchestrator.store.base import ChangeAgent
from opsconductor.rpc.errors import DuplicateAgent, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opsconductor.orchestrator.engine.fleet import Member
    from opsconductor.orchestrator.engine.messages import Introduction
    from opsconductor.orchestrator.store.facts import Changes
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
        await self._write(member, draining=not undo)
        member.draining = not undo  # a session that opened meanwhile may have read what was before

    async def quarantine(self, member: Member, reason: str, *, journal_id: str = "") -> None:
        """Keeps an agent out: its session ends, and it gets no other before it is released.

        A journal that is given is the one it has from then on.
        """
        LOG.error("agent %s is quarantined: %s", member.name, reason)
        member.quarantined = reason
        member.journal_id = journal_id or member.journal_id
        if member.session is not None:
            member.session.close(f"quarantined: {reason}")
        facts: Changes = {QUARANTINE: reason}
        if journal_id:
            member.journal_lost_in = self._store.incarnation
            facts = {**facts, JOURNAL_LOST_IN: member.journal_lost_in}
        await self._write(member, facts, quarantined=True, journal_id=journal_id or None)
        # A session that opened meanwhile may have read what was before.
        member.quarantined = reason
        if member.session is not None:
            member.session.close(f"quarantined: {reason}")

    async def release(self, member: Member, tool: str = "") -> None:
        """Lets an agent, or one tool of it, back into work. Raises NotFound for another tool."""
        if tool:
            if tool not in member.kept_tools:
                raise NotFound(f"tool {tool} is not quarantined on agent {member.name}")
            await self._write(member, {(*KEPT_TOOLS, tool): None, (*DIED, tool): None})
            member.kept_tools.pop(tool, None)
            member.crashes.pop(tool, None)
            return
        member.quarantined = ""
        member.kept_tools, member.crashes = {}, {}
        # Whoever comes first is the one. Its journal has to be the one that is known: with another
        # it cannot say what became of what it was given.
        member.instances = []
        none: Changes = dict.fromkeys((QUARANTINE, KEPT_TOOLS, DIED, INSTANCES))
        await self._write(member, none, quarantined=False)

    async def check_instance(self, member: Member, said: Introduction) -> list[str]:
        """Returns an agent's processes so far, with the one that speaks as the last.

        Raises:
            DuplicateAgent: It was replaced by a newer process and is there again, so two of them
                share one identity. Neither is let in any more.
        """
        seen = member.instances
        if not said.instance_id or (seen and seen[-1] == said.instance_id):
            return seen
        if said.instance_id in seen:
            reason = (
                "two processes use its identity at once: it was copied. Stop one of them, then "
                f"`opsctl agents release {member.name}`"
            )
            await self.quarantine(member, reason)
            raise DuplicateAgent(f"agent {member.name} is quarantined: {reason}")
        return [*seen, said.instance_id][-INSTANCES_KEPT:]

    def died_before(self, member: Member, said: Introduction) -> str:
        """Returns the process before the one that speaks, if it died by itself.

        A process whose machine was restarted did not: the machine ended it.
        """
        seen = member.instances
        new = bool(said.instance_id and seen) and seen[-1] != said.instance_id
        return seen[-1] if new and member.boot_id == said.boot_id else ""

    async def crashed(self, member: Member, process: str, tools: Iterable[str]) -> None:
        """Counts the death of an agent's process against the tools it had at work, once."""
        for tool in sorted(set(tools)):
            died = {*member.crashes.get(tool, ()), process}
            changes: dict[tuple[str, ...], Any] = {(*DIED, tool, process): True}
            kept = len(died) >= CRASHES_ALLOWED and tool not in member.kept_tools
            reason = (
                f"the agent died {len(died)} times in a row while it ran {tool}; "
                f"`opsctl agents release {member.name} --tool {tool}` lets it run again"
            )
            if kept:
                changes[(*KEPT_TOOLS, tool)] = reason
            await self._write(member, changes)
            member.crashes[tool] = died
            if kept:
                member.kept_tools[tool] = reason
                LOG.error("agent %s: tool %s is quarantined: %s", member.name, tool, reason)

    async def completed(self, member: Member, tool: str) -> None:
        """Notes that a tool does not make an agent crash after all."""
        if member.crashes.pop(tool, None):
            await self._write(member, {(*DIED, tool): None})

    async def _write(self, member: Member, facts: Changes | None = None, **columns: Any) -> None:
        member.changes += 1
        await self._store.commit(ChangeAgent(member.agent_id, facts=facts, **columns))
        member.changes += 1
