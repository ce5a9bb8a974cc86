"""The fleet: agents as the engine knows them, who is connected, and what each has at hand."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.place import AgentView
from opsconductor.orchestrator.domain.states import SessionState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from opsconductor.orchestrator.engine.messages import Introduction, Session


@dataclass
class Member:
    """One agent."""

    agent_id: str
    name: str
    segment: str
    tenant: str
    session_epoch: int = 0
    draining: bool = False
    quarantined: str = ""
    """Why it is kept out; empty while it is not."""
    certificate_expires: datetime | None = None
    version: str = ""
    services: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    capacity: int = 0
    journal_id: str = ""
    """Of the journal it had when it last connected; another one means that it has forgotten."""
    last_seen: datetime | None = None
    session: Session | None = None
    suspect: bool = False
    leaving: bool = False
    """Whether it said itself that it takes no more work."""
    attempts: set[str] = field(default_factory=set)

    @property
    def state(self) -> SessionState:
        """Where its session stands."""
        if self.quarantined:
            return SessionState.QUARANTINED
        if self.session is None:
            return SessionState.OFFLINE
        if self.suspect:
            return SessionState.SUSPECT
        return SessionState.DRAINING if self.draining or self.leaving else SessionState.ONLINE

    def introduce(self, introduction: Introduction) -> None:
        """Takes over what an agent says of itself."""
        self.version = introduction.version
        self.services = frozenset(introduction.services)
        self.methods = frozenset(introduction.methods)
        self.labels = dict(introduction.labels)
        self.capacity = introduction.capacity
        self.journal_id = introduction.journal_id

    def view(self) -> AgentView:
        """Returns the agent as placement sees it."""
        return AgentView(
            agent_id=self.agent_id,
            name=self.name,
            segment=self.segment,
            services=self.services,
            methods=self.methods,
            labels=self.labels,
            capacity=self.capacity,
            running=len(self.attempts),
            session_epoch=self.session_epoch,
            ready=self.state is SessionState.ONLINE,
        )


class Fleet:
    """All agents, and the locks that running attempts hold."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._locks: dict[str, tuple[str, ...]] = {}
        self._held: defaultdict[str, int] = defaultdict(int)

    def add(self, member: Member) -> None:
        """Adds an agent."""
        self._members[member.agent_id] = member

    def get(self, agent_id: str) -> Member | None:
        """Returns an agent by id or name."""
        if agent_id in self._members:
            return self._members[agent_id]
        return next((m for m in self._members.values() if m.name == agent_id), None)

    def members(self) -> Iterable[Member]:
        """Returns all agents."""
        return self._members.values()

    def views(self, tenant: str = "") -> list[AgentView]:
        """Returns all agents, of one tenant if given, as placement sees them."""
        return [m.view() for m in self._members.values() if tenant in ("", m.tenant)]

    @property
    def holds(self) -> Mapping[str, int]:
        """How many holders each lock has."""
        return self._held

    def take(self, agent_id: str, attempt_id: str, locks: Iterable[tuple[str, int]]) -> None:
        """Counts an attempt against its agent and its locks."""
        if attempt_id in self._locks:
            return
        if member := self._members.get(agent_id):
            member.attempts.add(attempt_id)
        self._locks[attempt_id] = tuple(key for key, _ in locks)
        for key in self._locks[attempt_id]:
            self._held[key] += 1

    def release(self, agent_id: str, attempt_id: str) -> bool:
        """Gives back an attempt's place and locks; tells whether it held any."""
        if member := self._members.get(agent_id):
            member.attempts.discard(attempt_id)
        locks = self._locks.pop(attempt_id, None)
        for key in locks or ():
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
        return locks is not None
