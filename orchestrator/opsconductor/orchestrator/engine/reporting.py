"""Reporting: what agents say became of attempts, committed before it is acknowledged."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.states import ATTEMPT_TRANSITIONS, AttemptState
from opsconductor.orchestrator.engine.importing import finished_fields, recovered_end
from opsconductor.orchestrator.engine.messages import Report
from opsconductor.orchestrator.store.rows import OPEN_ATTEMPT_STATES
from opsconductor.rpc.errors import NotFound, NotYourAttempt, OpsConductorError
from opsconductor.rpc.failpoints import hit

if TYPE_CHECKING:
    from collections.abc import Collection

    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.fleet import Member
    from opsconductor.orchestrator.engine.keeping import Keeping
    from opsconductor.orchestrator.engine.restoring import Restoring
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)


class Reporting:
    """Takes agents' reports."""

    def __init__(
        self, store: Store, engine: Engine, keeping: Keeping, restoring: Restoring
    ) -> None:
        self._store = store
        self._engine = engine
        self._keeping = keeping
        self._restoring = restoring

    async def take(self, member: Member, report: Report) -> None:
        """Takes a report: commits it, then acknowledges it if it is final. May be repeated.

        Raises:
            NotYourAttempt: The attempt was granted to another agent.
        """
        judged_in = self._restoring.incarnation
        try:
            execution_id = await self._engine.execution_of(report.attempt_id)
        except NotFound:
            await self._never_granted(member, report, judged_in)
            return
        if report.state == AttemptState.GRANTED:
            return  # it has the attempt and has not begun
        if report.state == AttemptState.RUNNING:
            await self._note_start(member, execution_id, report)
            return
        if self._engine.moves(execution_id):
            await self._end(member, execution_id, report)
        else:
            self._engine.after_others(lambda: self._end_unless_known(member, execution_id, report))

    async def _end_unless_known(self, member: Member, execution_id: str, report: Report) -> None:
        """Takes an end of which the orchestrator that moves the execution was told as well."""
        try:
            row = await self._store.attempt(report.attempt_id)
            if row is not None and row.state not in OPEN_ATTEMPT_STATES:
                _acknowledge(member, report.attempt_id)
            else:
                await self._end(member, execution_id, report)
        except OpsConductorError as exc:
            LOG.warning("report about %s: %s", report.attempt_id, exc.message)
            if member.session:
                member.session.close("a report could not be taken: connect and report again")

    async def _end(self, member: Member, execution_id: str, report: Report) -> None:
        hit("event.recv_before_commit")
        state = await self.finish(member, execution_id, report)
        hit("event.after_commit_before_ack")
        _acknowledge(member, report.attempt_id)
        if member.crashes and report.state == AttemptState.COMPLETED:
            await self._keeping.completed(member, tool_of(state, report.attempt_id))

    async def finish(self, member: Member, execution_id: str, report: Report) -> Execution:
        """Commits the end of an attempt, unless that has been done."""
        return await self._engine.command(
            execution_id, lambda state, _: _finished(state, member.agent_id, report)
        )

    async def give_up(
        self, member: Member, code: str, why: str, remembered: Collection[str] = ()
    ) -> list[tuple[str, str]]:
        """Ends what an agent was given, has not reported and nobody else can tell.

        Returns:
            Execution and step of each change that is unknown from here on.
        """
        unknown = []
        for row in await self._store.attempts_open_for(member.agent_id):
            if row.attempt_id in remembered:
                continue
            state = await self._engine.execution(row.execution_id)
            changes = state.compiled_step(row.step_id).changes
            report = Report(
                attempt_id=row.attempt_id,
                state=str(AttemptState.UNKNOWN),
                effects="possible" if changes else "none",
                error={"code": code, "message": why, "error_class": "unknown"},
            )
            state = await self.finish(member, row.execution_id, report)
            if changes and _is_unknown(state, row.attempt_id):
                unknown.append((row.execution_id, row.step_id))
        return unknown

    async def give_up_read(self, member: Member, attempt_id: str) -> None:
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

    async def _note_start(self, member: Member, execution_id: str, report: Report) -> None:
        started = ev.AttemptStarted(
            report.attempt_id, report.started_at, report.captured, report.command
        )
        if not self._engine.moves(execution_id):
            await self._engine.note(started, member.agent_id)
            return
        state = await self._engine.execution(execution_id)
        if report.attempt_id not in state.attempts:
            return  # recovered as running; it counts when its step's turn comes
        attempt = _own(state, member.agent_id, report.attempt_id)
        if attempt.state is not AttemptState.GRANTED:
            return
        await self._engine.note(started, member.agent_id)

    async def _never_granted(self, member: Member, report: Report, judged_in: str) -> None:
        """Stops all grants when an agent reports what was never granted: the store is older.

        What it reports stays on the agent (nothing is acknowledged) until an operator has looked.
        After that, what is left of the time before is taken note of and let go.
        """
        if self._restoring.awaits(member):
            return  # said in the session before the restore was confirmed; its journal says it too
        if not report.session_epoch or report.session_epoch >= member.restored_epoch:
            reason = f"agent {member.name} reports attempt {report.attempt_id}, never granted here"
            await self._restoring.enter(reason, judged_in=judged_in)
            return
        if report.state in (AttemptState.GRANTED, AttemptState.RUNNING):
            return
        await self._restoring.lose(
            member.tenant,
            [f"attempt {report.attempt_id} on {member.name}: {report.state.replace('_', ' ')}"],
        )
        if member.session:
            member.session.acknowledge(report.attempt_id)


def tool_of(state: Execution, attempt_id: str) -> str:
    """Returns the tool that an attempt runs; empty for an attempt that is not known."""
    attempt = state.attempts.get(attempt_id)
    if attempt is None:
        return ""
    body = state.compiled_step(attempt.step_id).body
    call = body["undo"]["call"] if attempt.kind == "undo" else None
    return str((call or body)["tool"])


def _is_unknown(state: Execution, attempt_id: str) -> bool:
    attempt = state.attempts.get(attempt_id)
    # One that a journal brought back after a restore counts when its step's turn comes.
    found = attempt.state if attempt else state.recovered[attempt_id].report["state"]
    return found == AttemptState.UNKNOWN


def _acknowledge(member: Member, attempt_id: str) -> None:
    if member.session:
        member.session.acknowledge(attempt_id)


def _own(state: Execution, agent_id: str, attempt_id: str) -> Attempt:
    attempt = state.attempts[attempt_id]
    if attempt.agent_id != agent_id:
        raise NotYourAttempt(f"attempt {attempt_id} was granted to {attempt.agent_id}")
    return attempt


def _finished(state: Execution, agent_id: str, report: Report) -> tuple[ev.Event, ...]:
    """Returns the event of a final report; none when the attempt has already ended."""
    if report.attempt_id not in state.attempts:
        return recovered_end(state, report) if report.attempt_id in state.recovered else ()
    attempt = _own(state, agent_id, report.attempt_id)
    if attempt.state is AttemptState.RUNNING and report.state == AttemptState.NOT_STARTED:
        report = _power_lost(state, attempt, report)
    to = AttemptState(report.state)
    if to in ATTEMPT_TRANSITIONS[attempt.state]:
        return (ev.AttemptFinished(**finished_fields(report)),)
    if attempt.state is to:
        return ()
    LOG.warning(
        "late report: attempt %s is %s, its agent now says %s; the record stands",
        attempt.attempt_id,
        attempt.state,
        to,
    )
    if attempt.state is not AttemptState.UNKNOWN or attempt.late:
        return ()
    error = dict(report.error) if report.error else None
    evidence = ev.LateEvidence(
        report.attempt_id, report.state, report.effects, report.exit_code, error
    )
    return (evidence,)


def _power_lost(state: Execution, attempt: Attempt, report: Report) -> Report:
    """Returns what an agent cannot say: it told of the start, and then its machine lost power.

    Only starts of reads are not on disk at once; to believe it would leave the attempt running.
    """
    changes = state.compiled_step(attempt.step_id).changes
    message = f"{attempt.agent_id} told that it began, and does not remember it any more"
    error = {"code": "AGENT_DIED", "message": message, "error_class": "unknown"}
    effects = "possible" if changes else "none"
    return replace(report, state=str(AttemptState.UNKNOWN), effects=effects, error=error)


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
