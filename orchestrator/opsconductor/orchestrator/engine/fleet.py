"""The fleet: agents as the engine knows them, who is connected, and what each has at hand."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions.place import UNLIMITED, AgentView
from opsconductor.orchestrator.domain.executions.states import SessionState
from opsconductor.orchestrator.domain.plans.plan import NAME_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from opsconductor.orchestrator.engine.messages import Introduction, Session


LOG = logging.getLogger(__name__)

SHOWN_SKEW = timedelta(minutes=5)
"""Clocks that differ by more make certificates and approvals fail; it is told."""
_ALL = 1 << 30
_BEST_FIRST = (SessionState.ONLINE, SessionState.SUSPECT, SessionState.DRAINING)


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
    certificate_sha256: str = ""
    create_time: datetime | None = None
    version: str = ""
    services: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    capacity: int = 0
    journal_id: str = ""
    """Of the journal it had when it last connected; another one means that it has forgotten."""
    last_seen: datetime | None = None
    heard_at: float | None = None
    """When it was last heard, by this orchestrator's count of time; None before it first was."""
    clock_skew: timedelta | None = None
    """How far its clock was ahead of ours when it connected here."""
    session: Session | None = None
    suspect: bool = False
    leaving: bool = False
    """Whether it said itself that it takes no more work."""
    attempts: set[str] = field(default_factory=set)
    boot_id: str = ""
    """Of the machine when it last connected."""
    instances: list[str] = field(default_factory=list)
    """Its processes, as they first connected; an old one that comes back is a clone."""
    crashes: dict[str, set[str]] = field(default_factory=dict)
    """Its processes that died with a tool at work, since that tool last completed."""
    kept_tools: dict[str, str] = field(default_factory=dict)
    """Tools it is given no more, each with the reason."""
    restored_epoch: int = 0
    """Session in which it handed over its journal; what was granted before is history."""
    journal_lost_in: str = ""
    """Incarnation of the store in which it came with a new journal; empty when it never did."""
    crashed: str = ""
    """The process before the present one if it died while its machine went on."""
    hands_over: str = ""
    """Incarnation it belongs to until its journal is taken in; empty when there is no need."""

    elsewhere: dict[str, SessionState] = field(default_factory=dict)
    """Where its sessions at other orchestrators stand, by the ids of those."""
    running_elsewhere: int = 0
    """Attempts that other orchestrators gave it."""
    changes: int = 0
    """Grows with everything that is changed of it here: what was read before is out of date."""

    @property
    def state(self) -> SessionState:
        """Where its session stands; the best of those elsewhere when there is none here."""
        if self.quarantined:
            return SessionState.QUARANTINED
        if self.session is None:
            return next(
                (s for s in _BEST_FIRST if s in self.elsewhere.values()), SessionState.OFFLINE
            )
        if self.suspect:
            return SessionState.SUSPECT
        return SessionState.DRAINING if self.draining or self.leaving else SessionState.ONLINE

    @property
    def running(self) -> int:
        """How many attempts it has."""
        return len(self.attempts) + self.running_elsewhere

    def note_clock(self, said: datetime | None, now: datetime) -> None:
        """Takes note of what its clock says at a moment; no decision about safety depends on it."""
        self.clock_skew = said - now if said else None
        if self.clock_skew and abs(self.clock_skew) > SHOWN_SKEW:
            seconds = self.clock_skew.total_seconds()
            LOG.warning(
                "the clock of agent %s differs by %.0f s: set it by NTP", self.name, seconds
            )

    def introduce(self, introduction: Introduction) -> None:
        """Takes over what an agent says of itself."""
        self.version = introduction.version
        self.services = frozenset(introduction.services)
        self.methods = frozenset(introduction.methods)
        self.labels = dict(introduction.labels)
        self.capacity = introduction.capacity
        self.journal_id = introduction.journal_id
        self.boot_id = introduction.boot_id

    def view(
        self, held: str = "", segment_room: int = UNLIMITED, tenant_room: int = UNLIMITED
    ) -> AgentView:
        """Returns the agent as placement sees it; ``held`` says why nobody is given work."""
        return AgentView(
            agent_id=self.agent_id,
            name=self.name,
            segment=self.segment,
            services=self.services,
            methods=self.methods,
            labels={**self.labels, NAME_LABEL: self.name},
            capacity=self.capacity,
            running=self.running,
            session_epoch=self.session_epoch,
            ready=self.session is not None and self.state is SessionState.ONLINE and not held,
            held=held,
            kept_tools=self.kept_tools,
            segment_room=segment_room,
            tenant_room=tenant_room,
        )


class Fleet:
    """All agents, and the locks that running attempts hold."""

    def __init__(self, tenant_limit: int = 0, segment_limit: int = 0) -> None:
        """Takes how many attempts a tenant, and each of its segments, may have; 0 is no limit."""
        self._tenant_limit = tenant_limit or UNLIMITED
        self._segment_limit = segment_limit or UNLIMITED
        self.held: Callable[[str], str] = lambda _: ""
        """Says why no agent of a tenant is given work now; empty when they are."""
        self._members: dict[str, Member] = {}
        self._locks: dict[str, tuple[str, ...]] = {}
        self._held: defaultdict[str, int] = defaultdict(int)
        self._elsewhere: dict[str, int] = {}

    def add(self, member: Member) -> None:
        """Adds an agent."""
        self._members[member.agent_id] = member

    def get(self, agent_id: str, tenant: str = "") -> Member | None:
        """Returns an agent by id or name, of one tenant if given."""
        found = self._members.get(agent_id)
        if found is not None and tenant in ("", found.tenant):
            return found
        members = self._members.values()
        return next((m for m in members if m.name == agent_id and tenant in ("", m.tenant)), None)

    def members(self) -> Iterable[Member]:
        """Returns all agents."""
        return self._members.values()

    def views(self, tenant: str = "") -> list[AgentView]:
        """Returns all agents, of one tenant if given, as placement sees them."""
        held = self.held(tenant)
        members = [m for m in self._members.values() if tenant in ("", m.tenant)]
        running: Counter[str] = Counter()
        for member in members:
            running[member.segment] += member.running
        tenant_room = self._tenant_limit - running.total()
        return [
            member.view(held, self._segment_limit - running[member.segment], tenant_room)
            for member in members
        ]

    @property
    def holds(self) -> Mapping[str, int]:
        """How many holders each lock has, as far as is known of other orchestrators."""
        if not self._elsewhere:
            return self._held
        held = Counter(self._held)
        held.update(self._elsewhere)
        return held

    def knows(self, attempt_id: str) -> bool:
        """Tells whether an attempt is counted here."""
        return attempt_id in self._locks

    def held_elsewhere(self, held: Mapping[str, int]) -> None:
        """Takes note of how many holders locks have at other orchestrators."""
        self._elsewhere = dict(held)

    def taken_elsewhere(self, key: str) -> None:
        """Takes note that nothing of a lock is left, until it is known better."""
        self._elsewhere[key] = _ALL

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
