"""Agents come and go: epochs, what each remembers against what it was given, silence."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain import events as ev
from opsconductor.orchestrator.domain.states import (
    ATTEMPT_TRANSITIONS,
    AttemptState,
    ExecutionState,
)
from opsconductor.orchestrator.engine.fleet import Member
from opsconductor.orchestrator.engine.messages import Report
from opsconductor.orchestrator.store.base import BumpSessionEpoch, PutAgent
from opsconductor.orchestrator.store.rows import AgentRow
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import (
    NotFound,
    NotYourAttempt,
    OpsConductorError,
    PermissionDenied,
    StaleEpoch,
    StoreRegressed,
)
from opsconductor.rpc.failpoints import hit

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from opsconductor.orchestrator.domain.execution import Attempt, Execution
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.fleet import Fleet
    from opsconductor.orchestrator.engine.messages import Introduction, Session
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

HEARTBEAT_INTERVAL = timedelta(seconds=5)
SESSION_TIMEOUT = timedelta(seconds=20)


class Agents:
    """Keeps the fleet true to who is connected and what they report."""

    def __init__(
        self, store: Store, fleet: Fleet, engine: Engine, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._engine = engine
        self._clock = clock
        self._watch: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Fills the fleet with every enrolled agent, offline. Comes before the engine starts."""
        for row in await self._store.agents():
            self._fleet.add(member_of(row))

    def start(self) -> None:
        """Begins to watch for silence."""
        self._watch = asyncio.create_task(self._watch_silence())

    async def stop(self) -> None:
        """Ends the watch and closes every session."""
        if self._watch:
            self._watch.cancel()
        for member in self._fleet.members():
            if member.session:
                member.session.close("the orchestrator is stopping")

    async def enrolled(self, row: AgentRow) -> Member:
        """Adds a new agent. Raises DuplicateAgent when its name is taken."""
        await self._store.commit(PutAgent(row))
        member = member_of(row)
        self._fleet.add(member)
        return member

    async def connect(self, agent_id: str, said: Introduction, session: Session) -> Member:
        """Opens a session: issues its epoch; an older session of the same agent is closed.

        Raises:
            PermissionDenied: The agent is not enrolled here, or is kept out.
            StaleEpoch: A later session of the same agent was faster.
            StoreRegressed: The agent has seen a newer or another store.
        """
        member = self._fleet.get(agent_id)
        if member is None:
            raise PermissionDenied(f"agent {agent_id} is not enrolled here")
        if member.quarantined:
            raise PermissionDenied(f"agent {member.name} is quarantined: {member.quarantined}")
        self._check_memory(member, said)
        if member.journal_id not in ("", said.journal_id):
            await self._settle_forgotten(member, said)
        (epoch,) = await self._store.commit(BumpSessionEpoch(agent_id))
        hit("session.after_epoch_bump")
        await self._store.commit(PutAgent(row_of(member, said, self._clock())))
        # Nothing is awaited from here on: the session counts as a whole or not at all.
        if epoch <= member.session_epoch:
            raise StaleEpoch(f"agent {member.name} has opened session {member.session_epoch}")
        if member.session is not None:
            member.session.close("the agent opened a newer session")
        member.introduce(said)
        session.epoch = member.session_epoch = epoch
        member.session = session
        member.suspect = member.leaving = False
        member.last_seen = self._clock()
        return member

    async def _settle_forgotten(self, member: Member, said: Introduction) -> None:
        """Ends what an agent was given and cannot remember: sent again, it could start twice."""
        LOG.error("agent %s has lost its journal: it has a new one", member.name)
        reported = {report.attempt_id for report in said.attempts}
        for state in list(self._engine.open_states()):
            for attempt in list(state.live_attempts()):
                if attempt.agent_id != member.agent_id or attempt.attempt_id in reported:
                    continue
                changes = state.compiled_step(attempt.step_id).changes
                await self._finish(
                    member, state.execution_id, _forgotten(member, attempt.attempt_id, changes)
                )

    async def _finish(self, member: Member, execution_id: str, report: Report) -> None:
        await self._engine.command(
            execution_id, lambda state, _: _finished(state, member.agent_id, report)
        )

    async def agree(self, member: Member, said: Introduction) -> None:
        """Brings what the agent remembers and what it was given together, then gives it work."""
        for report in said.attempts:
            await self.report(member, report)
        reported = {report.attempt_id for report in said.attempts}
        for state in list(self._engine.open_states()):
            for attempt in list(state.live_attempts()):
                if attempt.agent_id != member.agent_id or member.session is None:
                    continue
                if state.state is ExecutionState.CANCELLING or state.stopping == "timeout":
                    # Never sent again first: it could start before the cancel arrives.
                    member.session.cancel(attempt.attempt_id, state.reason)
                elif attempt.attempt_id not in reported:
                    self._engine.send(state, attempt)
        self._engine.place_soon()

    def heard(self, member: Member) -> None:
        """Notes a sign of life."""
        member.last_seen = self._clock()
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

    async def drain(self, name: str, *, undo: bool) -> Member:
        """Stops or resumes new work for an agent. Raises NotFound."""
        member = self._fleet.get(name)
        if member is None:
            raise NotFound(f"there is no agent {name}")
        row = await self._store.agent(member.agent_id)
        if row is None:
            raise NotFound(f"there is no agent {name}")
        await self._store.commit(PutAgent(_changed(row, draining=not undo)))
        member.draining = not undo
        self._engine.place_soon()
        return member

    async def renewed(self, member: Member, expires: datetime) -> None:
        """Notes until when an agent's newest certificate lasts."""
        row = await self._store.agent(member.agent_id)
        if row is not None:
            await self._store.commit(PutAgent(replace(row, certificate_expire_time=expires)))
        member.certificate_expires = expires

    async def report(self, member: Member, report: Report) -> None:
        """Takes a report: commits it, then acknowledges it if it is final. May be repeated.

        Raises:
            NotYourAttempt: The attempt was granted to another agent.
        """
        self.heard(member)
        try:
            execution_id = await self._engine.execution_of(report.attempt_id)
        except NotFound:
            self._never_granted(member, report)
            return
        if report.state == AttemptState.GRANTED:
            return  # it has the attempt and has not begun
        if report.state == AttemptState.RUNNING:
            await self._note_start(member, execution_id, report)
            return
        hit("event.recv_before_commit")
        await self._finish(member, execution_id, report)
        hit("event.after_commit_before_ack")
        if member.session:
            member.session.acknowledge(report.attempt_id)

    async def _note_start(self, member: Member, execution_id: str, report: Report) -> None:
        state = await self._engine.execution(execution_id)
        attempt = _own(state, member.agent_id, report.attempt_id)
        if attempt.state is not AttemptState.GRANTED:
            return
        started = ev.AttemptStarted(
            report.attempt_id, report.started_at, report.captured, report.command
        )
        await self._engine.note(report.attempt_id, started)

    def _never_granted(self, member: Member, report: Report) -> None:
        """Keeps work from an agent that reports what was never granted: the store is older.

        What the agent reports is kept on the agent (nothing is acknowledged), so that it can be
        brought in once an operator has looked.
        """
        member.quarantined = (
            f"it reports attempt {report.attempt_id}, which this store never granted: "
            "the store may have been restored to an older state"
        )
        LOG.error("agent %s is quarantined: %s", member.name, member.quarantined)

    def _check_memory(self, member: Member, said: Introduction) -> None:
        if said.incarnation and said.incarnation != self._store.incarnation:
            raise StoreRegressed(
                f"agent {member.name} has worked for another store (incarnation "
                f"{said.incarnation}); enrol it anew to trust this one"
            )
        if said.last_session_epoch > member.session_epoch:
            raise StoreRegressed(
                f"agent {member.name} has seen session {said.last_session_epoch}, this store only "
                f"knows {member.session_epoch}: the store went back in time"
            )

    async def _watch_silence(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL.total_seconds() / 2)
            for member in list(self._fleet.members()):
                try:
                    await self._check_silence(member)
                except OpsConductorError as exc:
                    LOG.warning("agent %s: looked at again later: %s", member.name, exc.message)

    async def _check_silence(self, member: Member) -> None:
        now = self._clock()
        if member.last_seen is None or now - member.last_seen < SESSION_TIMEOUT:
            return
        if member.session is not None and not member.suspect:
            member.suspect = True
            LOG.warning("agent %s is silent since %s", member.name, member.last_seen)
        for attempt_id in list(member.attempts):
            await self._give_up_read(member, attempt_id)

    async def _give_up_read(self, member: Member, attempt_id: str) -> None:
        """Frees a read of a silent agent to be tried elsewhere; a change stays with its agent."""
        report = _lost_read(member, attempt_id)
        try:
            await self._engine.command(
                await self._engine.execution_of(attempt_id),
                lambda state, _: (
                    _finished(state, member.agent_id, report)
                    if not state.compiled_step(state.attempts[attempt_id].step_id).changes
                    else ()
                ),
            )
        except NotFound:
            return


def member_of(row: AgentRow) -> Member:
    """Returns an enrolled agent as the fleet knows it before it connects."""
    facts = canonical.loads(row.facts) if row.facts else {}
    return Member(
        agent_id=row.agent_id,
        name=row.name,
        segment=row.segment,
        tenant=row.tenant,
        session_epoch=row.session_epoch,
        draining=row.draining,
        quarantined="kept out by an operator" if row.quarantined else "",
        certificate_expires=row.certificate_expire_time,
        version=facts.get("version", ""),
        services=frozenset(facts.get("services", ())),
        methods=frozenset(facts.get("methods", ())),
        labels=facts.get("labels", {}),
        capacity=facts.get("capacity", 0),
        journal_id=row.journal_id,
        last_seen=row.last_seen_time,
    )


def row_of(member: Member, said: Introduction, now: datetime) -> AgentRow:
    """Returns the row of a connected agent."""
    facts = {
        "version": said.version,
        "services": list(said.services),
        "methods": list(said.methods),
        "labels": dict(said.labels),
        "capacity": said.capacity,
        "boot_id": said.boot_id,
    }
    return AgentRow(
        agent_id=member.agent_id,
        tenant=member.tenant,
        name=member.name,
        segment=member.segment,
        certificate_sha256="",
        certificate_expire_time=member.certificate_expires,
        journal_id=said.journal_id,
        draining=member.draining,
        quarantined=bool(member.quarantined),
        facts=canonical.dumps(facts),
        last_seen_time=now,
        create_time=now,
    )


def _changed(row: AgentRow, *, draining: bool) -> AgentRow:

    return replace(row, draining=draining)


def _own(state: Execution, agent_id: str, attempt_id: str) -> Attempt:
    attempt = state.attempts[attempt_id]
    if attempt.agent_id != agent_id:
        raise NotYourAttempt(f"attempt {attempt_id} was granted to {attempt.agent_id}")
    return attempt


def _finished(state: Execution, agent_id: str, report: Report) -> tuple[ev.Event, ...]:
    """Returns the event of a final report; none when the attempt has already ended."""
    attempt = _own(state, agent_id, report.attempt_id)
    to = AttemptState(report.state)
    if to not in ATTEMPT_TRANSITIONS[attempt.state]:
        if attempt.state is not to:
            LOG.warning(
                "late report: attempt %s is %s, its agent now says %s; the record stands",
                attempt.attempt_id,
                attempt.state,
                to,
            )
        return ()
    return (
        ev.AttemptFinished(
            attempt_id=report.attempt_id,
            state=report.state,
            effects=report.effects,
            exit_code=report.exit_code,
            error=dict(report.error) if report.error else None,
            output=report.output,
            captured=report.captured,
            command=report.command,
            stdout_bytes=report.stdout_bytes,
            stderr_bytes=report.stderr_bytes,
            stdout_sha256=report.stdout_sha256,
            stderr_sha256=report.stderr_sha256,
            survivors=list(report.survivors),
            started_at=report.started_at,
            ended_at=report.ended_at,
        ),
    )


def _forgotten(member: Member, attempt_id: str, changes: bool) -> Report:  # noqa: FBT001
    return Report(
        attempt_id=attempt_id,
        state="unknown",
        effects="possible" if changes else "none",
        error={
            "code": "JOURNAL_LOST",
            "message": f"agent {member.name} has lost its journal and cannot say what became of it",
            "error_class": "unknown",
        },
    )


def _lost_read(member: Member, attempt_id: str) -> Report:

    return Report(
        attempt_id=attempt_id,
        state="unknown",
        effects="none",
        error={
            "code": "AGENT_LOST",
            "message": f"agent {member.name} has been silent since {member.last_seen:%H:%M:%S} UTC",
            "error_class": "unreachable",
        },
    )
