"""Agents come and go: epochs, what each remembers against what it was given, silence."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions.states import (
    AttemptState,
    ExecutionState,
)
from opsconductor.orchestrator.engine.giving_up import GivingUp
from opsconductor.orchestrator.engine.importing import Importing
from opsconductor.orchestrator.engine.keeping import Keeping
from opsconductor.orchestrator.engine.reporting import Reporting, tool_of
from opsconductor.orchestrator.engine.restoring import Restoring
from opsconductor.orchestrator.engine.roster import member_of, refresh, said_by
from opsconductor.orchestrator.engine.work import Trouble
from opsconductor.orchestrator.store.base import ChangeAgent, OpenSession, PutAgent
from opsconductor.rpc.errors import (
    NotFound,
    OpsConductorError,
    PermissionDenied,
    StaleEpoch,
    StoreRegressed,
)
from opsconductor.rpc.failpoints import hit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.fleet import Fleet, Member
    from opsconductor.orchestrator.engine.messages import (
        Introduction,
        Remembered,
        Report,
        Session,
    )
    from opsconductor.orchestrator.store.rows import AgentRow
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

HEARTBEAT_INTERVAL = timedelta(seconds=5)
SESSION_TIMEOUT = timedelta(seconds=20)
TRY_AGAIN = timedelta(seconds=5)
"""When an agent that is kept waiting should come again."""
DIED = "AGENT_DIED"
"""Code in an agent's report: its process ended while the attempt was at work."""


class Agents:
    """Keeps the fleet true to who is connected and what they report."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        engine: Engine,
        clock: Callable[[], datetime],
        boottime: Callable[[], float],
    ) -> None:
        """Takes the time of day, and seconds on a clock that never jumps, for silence."""
        self._store = store
        self._fleet = fleet
        self._engine = engine
        self._clock = clock
        self._boottime = boottime
        self._watch: asyncio.Task[None] | None = None
        self._trouble = Trouble(LOG)
        self._keeping = Keeping(store)
        self.restoring = Restoring(store, fleet, engine, self._keeping, clock)
        self.restoring.freed = self._give_all
        self._importing = Importing(store, engine)
        self._reporting = Reporting(store, engine, self._keeping, self.restoring)
        self._giving_up = GivingUp(store, engine, self._keeping, self._reporting, self.restoring)

    async def load(self) -> None:
        """Fills the fleet with every enrolled agent, offline. Comes before the engine starts."""
        for row in await self._store.agents():
            self._fleet.add(member_of(row))
        await self.restoring.load()

    def start(self) -> None:
        """Begins to watch for silence."""
        self._watch = asyncio.create_task(self._watch_silence())

    async def stop(self) -> None:
        """Ends the watch and closes every session."""
        if self._watch:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        for member in self._fleet.members():
            if member.session:
                member.session.close("the orchestrator is stopping")

    async def enrolled(self, row: AgentRow) -> Member:
        """Adds a new agent. Raises DuplicateAgent when its name is taken."""
        await self._store.commit(PutAgent(row))
        member = member_of(row)
        self._fleet.add(member)
        return member

    async def find(self, name: str, tenant: str) -> Member | None:
        """Returns an agent of a tenant by id or name, also one that another process enrolled."""
        member = self._fleet.get(name, tenant)
        if member is None and (row := await self._store.agent(name, tenant)):
            member = self._fleet.get(row.agent_id) or member_of(row)
            self._fleet.add(member)
        return member

    async def connect(self, agent_id: str, said: Introduction, session: Session) -> Member:
        """Opens a session: issues its epoch; an older session of the same agent is closed.

        Raises:
            PermissionDenied: The agent is not enrolled here, or is kept out.
            DuplicateAgent: Two processes use its identity.
            StaleEpoch: A later session of the same agent was faster.
            StoreRegressed: The agent has seen a newer or another store.
        """
        came = self._clock()
        member, epoch_stored = await self._known(agent_id)
        instances = await self._keeping.check_instance(member, said)
        crashed = self._keeping.died_before(member, said)
        if evidence := await self.restoring.notice(member, said, epoch_stored):
            raise StoreRegressed(
                f"{evidence}: the store may have gone back in time; an operator has to look",
                retry_after=TRY_AGAIN,
            )
        if member.journal_id not in ("", said.journal_id):
            await self._giving_up.forgotten(member, said)
        member.introduce(said)
        changes = member.changes
        (opened,) = await self._store.commit(
            OpenSession(
                agent_id,
                said.journal_id,
                said_by(said, instances),
                self._clock(),
                above=said.last_session_epoch,
            )
        )
        hit("session.after_epoch_bump")
        row = opened
        while member.changes != changes:  # the answer may be older than what was written meanwhile
            changes, row = member.changes, await self._store.agent(agent_id) or row
        member.changes += 1
        # Nothing is awaited from here on: the session counts as a whole or not at all.
        member.introduce(said)  # again: what others wrote may have been read meanwhile
        refresh(member, row)
        epoch = opened.session_epoch
        if member.quarantined:
            raise PermissionDenied(f"agent {member.name} is quarantined: {member.quarantined}")
        if epoch <= member.session_epoch:
            raise StaleEpoch(f"agent {member.name} has opened session {member.session_epoch}")
        if member.session is not None:
            member.session.close("the agent opened a newer session")
        session.epoch = member.session_epoch = epoch
        member.hands_over = self.restoring.hands_over(said)
        member.session = session
        member.suspect = member.leaving = False
        member.last_seen, member.crashed = row.last_seen_time, crashed
        member.heard_at = self._boottime()
        member.note_clock(said.clock_time, came)
        return member

    async def _known(self, agent_id: str) -> tuple[Member, int]:
        """Returns an agent as the store has it, and its newest epoch. Raises PermissionDenied."""
        row = await self._store.agent(agent_id)
        if row is None:
            raise PermissionDenied(f"agent {agent_id} is not enrolled here")
        member = self._fleet.get(agent_id)
        if member is None:  # another orchestrator enrolled it
            member = member_of(row)
            self._fleet.add(member)
        refresh(member, row)
        if member.quarantined:
            raise PermissionDenied(f"agent {member.name} is quarantined: {member.quarantined}")
        return member, row.session_epoch

    async def hand_over(self, member: Member, lines: Sequence[Remembered], *, last: bool) -> None:
        """Takes in a part of the journal of an agent after a restore of the store.

        Raises:
            StoreRegressed: The agent is at work on something of an execution that is not known any
                more. Nobody can tell what that changes, so it has to end before others begin.
        """
        self.heard(member)
        lost = await self._importing.take(member, lines)
        for line in lines:
            at_work = line.report.state in (AttemptState.GRANTED, AttemptState.RUNNING)
            if at_work and not await self.restoring.knows(line.report.attempt_id):
                raise StoreRegressed(
                    f"agent {member.name} is still at work on {line.report.attempt_id} of "
                    f"{line.execution_id}, which is not known any more: that has to end first",
                    retry_after=TRY_AGAIN,
                )
        await self.restoring.lose(member.tenant, lost)
        if last:
            await self.restoring.taken(member)
            self._give_all()

    def _give_all(self) -> None:
        """Sends what was not while journals were awaited; an agent starts nothing a second time."""
        for member in list(self._fleet.members()):
            known = {a.attempt_id for _, a in self._live_of(member) if a.started_at}
            self._give(member, known)

    async def agree(self, member: Member, said: Introduction) -> None:
        """Brings what the agent remembers and what it was given together, then gives it work."""
        reported = {report.attempt_id for report in said.attempts}
        if member.crashed:
            tools = await self._at_work(member, said)
            await self._keeping.crashed(member, member.crashed, tools)
        for report in said.attempts:
            await self.report(member, report)
        self._give(member, reported)
        self._engine.place_soon()

    def _give(self, member: Member, reported: set[str]) -> None:
        """Sends an agent what it was granted and may not have, and takes back what it must not."""
        for state, attempt in self._live_of(member):
            if member.session is None:
                return
            if state.state is ExecutionState.CANCELLING or state.stopping == "timeout":
                # Never sent again first: it could start before the cancel arrives.
                member.session.cancel(attempt.attempt_id, state.reason)
            elif attempt.attempt_id in reported:
                continue
            elif why := member.kept_tools.get(tool_of(state, attempt.attempt_id)):
                member.session.cancel(attempt.attempt_id, why)
            elif not self._fleet.held(member.tenant):
                self._engine.send(state, attempt)

    def _live_of(self, member: Member) -> Iterator[tuple[Execution, Attempt]]:
        for state in list(self._engine.open_states()):
            for attempt in list(state.live_attempts()):
                if attempt.agent_id == member.agent_id:
                    yield state, attempt

    async def _at_work(self, member: Member, said: Introduction) -> list[str]:
        """Returns the tools that an agent had been given when its process died."""
        died = {
            report.attempt_id: bool(report.error and report.error.get("code") == DIED)
            for report in said.attempts
        }
        return [
            tool_of(await self._engine.execution(row.execution_id), row.attempt_id)
            for row in await self._store.attempts_open_for(member.agent_id)
            if died.get(row.attempt_id, True)
        ]

    def heard(self, member: Member) -> None:
        """Notes a sign of life."""
        member.last_seen, member.heard_at = self._clock(), self._boottime()
        if member.suspect:
            member.suspect = False
            self._engine.place_soon()

    def disconnect(self, member: Member, session: Session) -> None:
        """Ends a session; a newer one of the same agent is left alone."""
        if member.session is session:
            member.session = None
            LOG.info("agent %s disconnected", member.name)

    def stop_taking(self, member: Member) -> None:
        """Gives an agent that is about to stop no more work in this session."""
        member.leaving = True

    async def drain(self, name: str, *, undo: bool, tenant: str = "") -> Member:
        """Stops or resumes new work for an agent. Raises NotFound."""
        member = await self._named(name, tenant)
        await self._keeping.drain(member, undo=undo)
        self._engine.place_soon()
        return member

    async def release(self, name: str, tool: str = "", *, tenant: str = "") -> Member:
        """Takes an agent, or one tool of it, out of quarantine. Raises NotFound."""
        member = await self._named(name, tenant)
        await self._keeping.release(member, tool)
        self._engine.place_soon()
        return member

    async def retire(
        self, name: str, person: str, reason: str, *, tenant: str = ""
    ) -> tuple[Member, list[tuple[str, str]]]:
        """Gives up on an agent. See GivingUp.retire. Raises NotFound as well."""
        member = await self._named(name, tenant)
        return member, await self._giving_up.retire(member, person, reason)

    async def renewed(self, member: Member, expires: datetime, sha256: str = "") -> None:
        """Notes an agent's newest certificate."""
        member.certificate_expires = expires
        member.certificate_sha256 = sha256 or member.certificate_sha256
        await self._store.commit(
            ChangeAgent(
                member.agent_id,
                certificate_expire_time=expires,
                certificate_sha256=member.certificate_sha256,
            )
        )

    async def report(self, member: Member, report: Report) -> None:
        """Takes a report: commits it, then acknowledges it if it is final. May be repeated.

        Raises:
            NotYourAttempt: The attempt was granted to another agent.
        """
        self.heard(member)
        await self._reporting.take(member, report)

    async def _named(self, name: str, tenant: str) -> Member:
        row = await self._store.agent(name, tenant or None)
        member = self._fleet.get(row.agent_id) if row else None
        if row is None or member is None:
            raise NotFound(f"there is no agent {name}")
        refresh(member, row)
        return member

    async def _watch_silence(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL.total_seconds() / 2)
            if self._store.shared:
                await self._look_at_others()
            for member in list(self._fleet.members()):
                try:
                    await self._check_silence(member)
                except OpsConductorError as exc:
                    self._trouble.say(f"agent {member.name} is looked at later: {exc.message}")

    async def _look_at_others(self) -> None:
        """Takes over what another orchestrator wrote about the store as a whole."""
        with suppress(OpsConductorError):
            await self.restoring.load()

    async def _check_silence(self, member: Member) -> None:
        if member.heard_at is None:  # not since this orchestrator started: it has time from now
            member.heard_at = self._boottime()
        if self._boottime() - member.heard_at < SESSION_TIMEOUT.total_seconds():
            return
        if member.session is not None and not member.suspect:
            member.suspect = True
            LOG.warning("agent %s is silent since %s", member.name, member.last_seen)
        if member.elsewhere:
            return  # others hear it, and take its reports
        for attempt_id in list(member.attempts):
            await self._reporting.give_up_read(member, attempt_id)
