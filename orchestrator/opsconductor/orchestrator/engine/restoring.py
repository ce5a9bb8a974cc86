"""A store that went back in time: nothing is granted until agents have told what they remember."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.engine.forgotten import Forgotten
from opsconductor.orchestrator.engine.roster import JOURNAL_LOST_IN, RESTORED_EPOCH
from opsconductor.orchestrator.engine.safe_mode import (
    AWAITED,
    LINEAGE,
    LOST,
    LOST_SHOWN,
    SAFE_MODE,
    SafeMode,
    mode_of,
)
from opsconductor.orchestrator.store.base import ChangeAgent, DropMeta, SetMeta
from opsconductor.orchestrator.store.migrate import INCARNATION
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import InvalidArgument, InvalidTransition, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.fleet import Fleet, Member
    from opsconductor.orchestrator.engine.keeping import Keeping
    from opsconductor.orchestrator.engine.messages import Introduction
    from opsconductor.orchestrator.store.facts import Changes
    from opsconductor.orchestrator.store.mark import Mark
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

LEFT_OUT = (
    "the store was restored without its journal; `opsctl agents release {name}` lets it in again, "
    "and it hands over its journal if that was found after all"
)


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
        self._forgotten = Forgotten(store, engine)
        self._lineage: tuple[str, ...] = ()
        self._changing = asyncio.Lock()
        self.mode: SafeMode | None = None
        self.freed: Callable[[], None] = lambda: None
        """What is done when less is awaited than before."""
        fleet.held = self.held
        engine.on_regress = self.enter

    async def load(self) -> Mapping[str, str]:
        """Reads from the store how things stand; another orchestrator may have written it."""
        async with self._changing:
            return await self._read()

    async def _read(self) -> Mapping[str, str]:
        values = await self._store.meta_values()
        incarnation = values.get(INCARNATION, self._store.incarnation)
        self._lineage = tuple(canonical.loads(values.get(LINEAGE, "[]").encode()))
        if incarnation != self._store.incarnation:
            self._store.incarnation = incarnation
            self._close_sessions()
        before, self.mode = self.mode, mode_of(values, incarnation)
        if before is not None and before != self.mode:
            self.freed()
            self._engine.place_soon()
        return values

    def held(self, tenant: str) -> str:
        """Says why a tenant's agents are given no work now; empty when they are."""
        mode = self.mode
        if mode is None:
            return ""
        if not mode.confirmed:
            return (
                f"safe mode: {mode.reason}; nothing is granted until an operator has looked and "
                "says `opsctl agents confirm-restore --reason TEXT`"
            )
        if not (why := self.why_awaited(tenant)):
            return ""
        left_out = " ".join(f"--without {name}" for name in self.awaited(tenant))
        return (
            f"{why}; a journal that is lost is given up with "
            f"`opsctl agents confirm-restore --reason TEXT {left_out}`"
        )

    def why_awaited(self, tenant: str) -> str:
        """Says whose journals are awaited and what each lacks; empty when none is."""
        awaited = self.awaited(tenant)
        if not awaited:
            return ""
        return (
            f"waits for the journal of {', '.join(awaited)} after the store was restored: "
            + "; ".join(f"{name} {why}" for name, why in awaited.items())
        )

    def awaited(self, tenant: str) -> dict[str, str]:
        """Returns the names of a tenant's agents whose journals are awaited, each with why."""
        members = (
            self._fleet.get(agent_id) for agent_id in (self.mode.awaited if self.mode else ())
        )
        found = [m for m in members if m is not None and tenant in ("", m.tenant)]
        return {m.name: _why_awaited(m) for m in sorted(found, key=lambda member: member.name)}

    def awaits(self, member: Member) -> bool:
        """Tells whether an agent's journal is awaited."""
        return self.mode is not None and member.agent_id in self.mode.awaited

    def lost(self, tenant: str) -> list[str]:
        """Returns what a tenant's agents did for executions that this store does not know."""
        lines = self.mode.lost if self.mode else ()
        return [line for name, _, line in (item.partition("|") for item in lines) if name == tenant]

    @property
    def incarnation(self) -> str:
        """The store's incarnation."""
        return self._store.incarnation

    # Noticing

    async def notice(self, member: Member, said: Introduction, epoch: int) -> str:
        """Grants nothing any more where an agent knows what this store should know too.

        Returns:
            What it knows; empty when all is well.
        """
        found = await self._evidence(member, said, epoch)
        if found:
            await self.load()  # another orchestrator may have taken its journal in
            judged_in = self._store.incarnation
            if found := await self._evidence(member, said, epoch):
                await self.enter(found, said.incarnation, judged_in)
        return found

    async def _evidence(self, member: Member, said: Introduction, epoch: int) -> str:
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

    async def stranger(self, agent_id: str) -> None:
        """Takes a certificate of ours for an agent that the store does not know as a sign.

        Once an operator has confirmed a restore, it may be one that enrolled after the backup.
        """
        if not self._lineage:
            await self.load()
        if not self._lineage:
            reason = f"agent {agent_id} has a certificate of ours and is not known here"
            await self.enter(reason, judged_in=self._store.incarnation)

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

    async def measure(self, mark: Mark) -> None:
        """Compares the store with what this orchestrator's data directory has seen of it.

        A store of another incarnation is an older one, unless an operator has confirmed it.
        """
        count = mark.count
        values = await self.load()
        current = self._store.incarnation
        if mark.incarnation not in ("", current, *self._lineage):
            reason = f"incarnation {mark.incarnation} of the store was seen, this is {current}"
            await self.enter(reason, mark.incarnation, current)
        elif mark.incarnation == current and (reason := mark.behind(values, count)):
            await self.enter(reason, judged_in=current)
        else:
            mark.follow(current, values)

    async def enter(self, reason: str, incarnation: str = "", judged_in: str = "") -> None:
        """Grants nothing to anyone from here on.

        Args:
            reason: What shows that the store went back.
            incarnation: One that somebody knows and this store does not.
            judged_in: The store's incarnation by which that was found. Where an operator has
                confirmed the restore since, it shows nothing any more and has to be found anew.
        """
        async with self._changing:
            await self._read()
            if judged_in not in ("", self._store.incarnation):
                return
            mode = self.mode
            if mode is not None and not mode.confirmed and incarnation in ("", *mode.seen):
                return
            LOG.error("safe mode: the store may have gone back in time: %s", reason)
            seen = tuple(dict.fromkeys((*(mode.seen if mode else ()), incarnation)))
            self.mode = SafeMode(
                reason=f"the store may have been restored to an older state: {reason}",
                since=self._clock().isoformat(),
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
        async with self._changing:
            await self._read()
            return await self._confirm(person, tenant, reason, without, planned=planned)

    async def _confirm(
        self, person: str, tenant: str, reason: str, without: Sequence[str], *, planned: bool
    ) -> SafeMode | None:
        if self.mode is None and not planned:
            raise InvalidTransition(
                "the store is not in safe mode: no agent knows more than it. If you have restored "
                "it and want agents to hand over their journals, say that it was planned"
            )
        left_out = [self._named(name, tenant) for name in without]
        for member in left_out:
            await self.forget(member, person)
            await self._keeping.quarantine(member, LEFT_OUT.format(name=member.name))
        mode = self.mode or SafeMode(f"restored as planned: {reason}", self._clock().isoformat())
        if mode.confirmed:
            await self._no_longer_await([member.agent_id for member in left_out])
            await self._read()
            return self.mode
        awaited = [m.agent_id for m in self._fleet.members() if m not in left_out]
        mode = replace(mode, confirmed=True, awaited=tuple(sorted(awaited)), seen=(), lost=())
        old = dict.fromkeys((*self._lineage, self._store.incarnation, *(self.mode or mode).seen))
        incarnation = secrets.token_hex(16)
        await self._store.commit(
            SetMeta(INCARNATION, incarnation),
            SetMeta(LINEAGE, canonical.dumps(list(old)).decode()),
            SetMeta(SAFE_MODE, mode.write() if awaited else ""),
            *(SetMeta(AWAITED + agent_id, incarnation) for agent_id in awaited),
        )
        LOG.warning("%s confirmed that the store was restored: %s", person, reason)
        self._store.incarnation, self._lineage = incarnation, tuple(old)
        self.mode = mode if awaited else None
        self._close_sessions()
        self._engine.place_soon()
        return self.mode

    async def taken(self, member: Member) -> None:
        """Notes that all of an agent's journal has been taken in.

        One that it began before the restore was confirmed may be younger than the backup: what it
        did in between stands in a journal that is lost.
        """
        if member.journal_lost_in in self._lineage:
            await self.forget(member, "opsconductor")
            member.journal_lost_in = ""
        member.restored_epoch, member.hands_over = member.session_epoch, ""
        facts: Changes = {RESTORED_EPOCH: member.session_epoch, JOURNAL_LOST_IN: None}
        change = ChangeAgent(member.agent_id, facts=facts)
        async with self._changing:
            await self._no_longer_await([member.agent_id], change)
            await self._read()
        LOG.warning("agent %s has handed over its journal", member.name)

    async def forget(self, member: Member, person: str) -> None:
        """Stops what an agent may have gone on with after the backup: nobody remembers it."""
        await self._forgotten.stop(member, person)

    async def lose(self, tenant: str, attempts: Sequence[str]) -> None:
        """Keeps for people what agents did for executions that this store does not know."""
        for line in attempts:
            LOG.warning("not known to the restored store: %s", line)
        if self.mode is None or not attempts or len(self.mode.lost) >= LOST_SHOWN:
            return
        keys = (f"{LOST}{tenant}|{line}" for line in attempts[:LOST_SHOWN])
        await self._store.commit(*(SetMeta(key, self._store.incarnation) for key in keys))
        await self.load()

    async def _no_longer_await(self, agent_ids: Sequence[str], *operations: Any) -> None:
        # What a later incarnation awaits stays.
        taken = (DropMeta(AWAITED + name, self._store.incarnation) for name in agent_ids)
        await self._store.commit(*taken, *operations)

    def _close_sessions(self) -> None:
        for member in self._fleet.members():
            if member.session is not None:
                member.session.close("the store was restored: connect again and tell what you know")

    def _named(self, name: str, tenant: str) -> Member:
        member = self._fleet.get(name, tenant)
        if member is None:
            raise NotFound(f"there is no agent {name}")
        return member


def _why_awaited(member: Member) -> str:
    if member.quarantined:
        return "is quarantined: release it, and it hands its journal over"
    if member.session is None:
        return "is not connected" if not member.elsewhere else "is connected elsewhere"
    if member.hands_over:
        return "is handing it over"
    return "is connected with a new journal: the old one is lost"
