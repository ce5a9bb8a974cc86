"""A store that went back in time: nothing is granted until agents have told what they remember."""

from __future__ import annotations

import logging
import secrets
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.engine.roster import row_of
from opsconductor.orchestrator.store.base import PutAgent, SetMeta
from opsconductor.orchestrator.store.migrate import INCARNATION
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import InvalidArgument, InvalidTransition, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.fleet import Fleet, Member
    from opsconductor.orchestrator.engine.keeping import Keeping
    from opsconductor.orchestrator.engine.messages import Introduction
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

SAFE_MODE = "safe_mode"
"""Key in ``meta``: how things stand after the store went back; empty when it is trusted."""
LINEAGE = "lineage"
"""Key in ``meta``: incarnations that an operator has replaced by the present one."""
LOST_SHOWN = 100
LEFT_OUT = "the store was restored without its journal"


@dataclass(frozen=True)
class SafeMode:
    """Why nothing is granted."""

    reason: str
    since: str
    confirmed: bool = False
    """Whether an operator has said that the store was restored; journals are awaited then."""
    awaited: tuple[str, ...] = ()
    """Ids of agents whose journals have not been taken in."""
    seen: tuple[str, ...] = ()
    """Incarnations that agents belong to and this store does not know."""
    lost: tuple[str, ...] = ()
    """Attempts in agents' journals of executions that this store does not know, in words."""

    @classmethod
    def read(cls, text: str | None) -> SafeMode | None:
        """Reads what ``write`` made; None when the store is trusted."""
        if not text:
            return None
        data = canonical.loads(text.encode())
        return cls(
            reason=data["reason"],
            since=data["since"],
            confirmed=data["confirmed"],
            awaited=tuple(data["awaited"]),
            seen=tuple(data["seen"]),
            lost=tuple(data["lost"]),
        )

    def write(self) -> str:
        """Returns it as text."""
        return canonical.dumps(asdict(self)).decode()


class Restoring:
    """Notices that the store went back, and brings it forward again from agents' journals."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        engine: Engine,
        keeping: Keeping,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._engine = engine
        self._keeping = keeping
        self._clock = clock
        self._lineage: tuple[str, ...] = ()
        self.mode: SafeMode | None = None
        fleet.held = self.held

    async def load(self) -> None:
        """Reads from the store how things stand; another orchestrator may have written it."""
        self._lineage = tuple(canonical.loads((await self._store.meta(LINEAGE) or "[]").encode()))
        self.mode = SafeMode.read(await self._store.meta(SAFE_MODE))
        incarnation = await self._store.meta(INCARNATION) or self._store.incarnation
        if incarnation != self._store.incarnation:
            self._store.incarnation = incarnation
            self._close_sessions()

    def held(self, tenant: str) -> str:
        """Says why a tenant's agents are given no work now; empty when they are."""
        mode = self.mode
        if mode is None:
            return ""
        if not mode.confirmed:
            return (
                f"safe mode: {mode.reason}; nothing is granted until an operator has looked and "
                "says `opsctl agents confirm-restore`"
            )
        names = self.awaited(tenant)
        if not names:
            return ""
        return f"waits for the journal of {', '.join(names)} after the store was restored"

    def awaited(self, tenant: str) -> list[str]:
        """Returns the names of a tenant's agents whose journals are awaited."""
        members = (
            self._fleet.get(agent_id) for agent_id in (self.mode.awaited if self.mode else ())
        )
        return sorted(m.name for m in members if m is not None and tenant in ("", m.tenant))

    def lost(self, tenant: str) -> list[str]:
        """Returns what a tenant's agents did for executions that this store does not know."""
        lines = self.mode.lost if self.mode else ()
        return [line for name, _, line in (item.partition("|") for item in lines) if name == tenant]

    @property
    def incarnation(self) -> str:
        """The store's incarnation."""
        return self._store.incarnation

    # Noticing

    async def evidence(self, member: Member, said: Introduction, epoch: int) -> str:
        """Returns what an agent knows that this store should know too; empty when all is well."""
        current = self._store.incarnation
        if said.incarnation not in ("", current, *self._lineage):
            return (
                f"agent {member.name} belongs to incarnation {said.incarnation} of the store, this "
                f"is {current}"
            )
        if said.incarnation not in ("", current):
            return ""  # it has yet to hand over its journal
        if said.last_session_epoch > epoch:
            return (
                f"agent {member.name} has seen session {said.last_session_epoch}, this store only "
                f"knows {epoch}"
            )
        for report in said.attempts:
            if report.session_epoch and report.session_epoch < member.restored_epoch:
                continue
            if not await self.knows(report.attempt_id):
                return (
                    f"agent {member.name} reports attempt {report.attempt_id}, never granted here"
                )
        return ""

    async def knows(self, attempt_id: str) -> bool:
        """Tells whether this store knows an attempt."""
        try:
            await self._engine.execution_of(attempt_id)
        except NotFound:
            return False
        return True

    def hands_over(self, said: Introduction) -> str:
        """Returns the incarnation that an agent has to leave, if an operator confirmed that."""
        mine = said.incarnation in ("", self._store.incarnation)
        return "" if mine or said.incarnation not in self._lineage else said.incarnation

    async def enter(self, reason: str, incarnation: str = "") -> None:
        """Grants nothing to anyone from here on."""
        mode = self.mode
        if mode is not None and not mode.confirmed and incarnation in ("", *mode.seen):
            return
        LOG.error("safe mode: the store may have gone back in time: %s", reason)
        seen = tuple(dict.fromkeys((*(mode.seen if mode else ()), incarnation)))
        self.mode = SafeMode(
            reason=f"the store may have been restored to an older state: {reason}",
            since=self._clock().isoformat(),
            awaited=mode.awaited if mode else (),
            seen=tuple(name for name in seen if name),
            lost=mode.lost if mode else (),
        )
        await self._store.commit(SetMeta(SAFE_MODE, self.mode.write()))
        self._engine.place_soon()

    # Coming back

    async def confirm(
        self, person: str, tenant: str, reason: str, without: Sequence[str], *, planned: bool
    ) -> SafeMode | None:
        """Takes an operator's word that the store was restored; journals are taken in next.

        Raises:
            InvalidTransition: Nothing shows that, and it was not planned.
            NotFound: There is no agent of a name that is left out.
        """
        if not reason:
            raise InvalidArgument("a reason is required: it is the record of why work goes on")
        if self.mode is None and not planned:
            raise InvalidTransition(
                "the store is not in safe mode: no agent knows more than it. If you have restored "
                "it and want agents to hand over their journals, say that it was planned"
            )
        left_out = [self._named(name, tenant) for name in without]
        for member in left_out:
            await self._keeping.quarantine(member, LEFT_OUT)
        mode = self.mode or SafeMode(f"restored as planned: {reason}", self._clock().isoformat())
        if mode.confirmed:
            await self._no_longer_await([member.agent_id for member in left_out])
            return self.mode
        awaited = [m.agent_id for m in self._fleet.members() if m not in left_out]
        mode = replace(mode, confirmed=True, awaited=tuple(awaited), seen=())
        old = dict.fromkeys((*self._lineage, self._store.incarnation, *(self.mode or mode).seen))
        incarnation = secrets.token_hex(16)
        await self._store.commit(
            SetMeta(INCARNATION, incarnation),
            SetMeta(LINEAGE, canonical.dumps(list(old)).decode()),
            SetMeta(SAFE_MODE, mode.write() if awaited else ""),
        )
        LOG.warning("%s confirmed that the store was restored: %s", person, reason)
        self._store.incarnation, self._lineage = incarnation, tuple(old)
        self.mode = mode if awaited else None
        self._close_sessions()
        self._engine.place_soon()
        return self.mode

    async def taken(self, member: Member) -> None:
        """Notes that all of an agent's journal has been taken in."""
        member.restored_epoch, member.hands_over = member.session_epoch, ""
        await self._no_longer_await([member.agent_id], PutAgent(row_of(member, self._clock())))
        LOG.warning("agent %s has handed over its journal", member.name)

    async def lose(self, tenant: str, attempts: Sequence[str]) -> None:
        """Keeps for people what agents did for executions that this store does not know."""
        for line in attempts:
            LOG.warning("not known to the restored store: %s", line)
        if self.mode is None or not attempts:
            return
        lines = (f"{tenant}|{line}" for line in attempts)
        lost = tuple(dict.fromkeys((*self.mode.lost, *lines)))[:LOST_SHOWN]
        self.mode = replace(self.mode, lost=lost)
        await self._store.commit(SetMeta(SAFE_MODE, self.mode.write()))

    async def _no_longer_await(self, agent_ids: Sequence[str], *operations: Any) -> None:
        mode = self.mode
        if mode is not None and mode.confirmed:
            left = tuple(name for name in mode.awaited if name not in agent_ids)
            mode = replace(mode, awaited=left) if left else None
        await self._store.commit(SetMeta(SAFE_MODE, mode.write() if mode else ""), *operations)
        self.mode = mode
        self._engine.place_soon()

    def _close_sessions(self) -> None:
        for member in self._fleet.members():
            if member.session is not None:
                member.session.close("the store was restored: connect again and tell what you know")

    def _named(self, name: str, tenant: str) -> Member:
        member = self._fleet.get(name, tenant)
        if member is None:
            raise NotFound(f"there is no agent {name}")
        return member
