"""Importing: what an agent's journal says becomes part of executions a restored store forgot."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.place import able, demand_of
from opsconductor.orchestrator.domain.executions.recovering import number_of
from opsconductor.orchestrator.domain.executions.states import ATTEMPT_TRANSITIONS, AttemptState
from opsconductor.orchestrator.store.base import PutAttempt
from opsconductor.orchestrator.store.rows import AttemptRow
from opsconductor.rpc.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.fleet import Member
    from opsconductor.orchestrator.engine.messages import Remembered, Report
    from opsconductor.orchestrator.store.store import Store

KINDS = ("forward", "undo")


class Importing:
    """Takes in agents' journals."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine

    async def take(self, member: Member, lines: Iterable[Remembered]) -> list[str]:
        """Takes in a part of a journal; returns, in words, what no execution here is known for."""
        lost: list[str] = []
        by_execution: defaultdict[str, list[Remembered]] = defaultdict(list)
        for line in lines:
            row = await self._store.attempt(line.report.attempt_id)
            if row is None or row.state in ("granted", "running"):
                by_execution[line.execution_id].append(line)
        for execution_id, found in by_execution.items():
            try:
                await self._take(member, execution_id, found)
            except NotFound:
                lost += [_in_words(member, line) for line in found]
        return lost

    async def _take(self, member: Member, execution_id: str, lines: Sequence[Remembered]) -> None:
        state = await self._engine.execution(execution_id)
        if state.tenant != member.tenant:
            raise NotFound(f"there is no execution {execution_id}")
        state = await self._engine.command(
            execution_id, lambda state, _: [e for x in lines for e in _events(state, member, x)]
        )
        rows = [
            PutAttempt(_row(execution_id, event))
            for line in lines
            if (event := state.recovered.get(line.report.attempt_id))
            and event.attempt_id not in state.attempts
        ]
        if rows:  # so that later reports and output find their execution
            await self._store.commit(*rows)
        if not state.open and member.session is not None:
            for row in rows:  # it ended here without knowing of them
                if row.row.state == AttemptState.RUNNING:
                    reason = f"the execution is {state.state}"
                    member.session.cancel(row.row.attempt_id, reason)


def recovered_end(state: Execution, report: Report) -> tuple[ev.Event, ...]:
    """Returns the event of an end, reported later, of an attempt whose step's turn has not come."""
    known = state.recovered[report.attempt_id]
    if known.report["state"] == report.state or known.report["state"] != AttemptState.RUNNING:
        return ()
    return (
        ev.AttemptRecovered(
            **{**_fields(known), "report": finished_fields(report), "started": known.started}
        ),
    )


def finished_fields(report: Report) -> dict[str, Any]:
    """Returns the fields of the event that ends an attempt as its agent reports it."""
    fields = {
        **asdict(report),
        "survivors": list(report.survivors),
        "gaps": [dict(gap) for gap in report.gaps],
    }
    del fields["session_epoch"]
    return fields


def _events(state: Execution, member: Member, line: Remembered) -> tuple[ev.Event, ...]:
    report = line.report
    attempt = state.attempts.get(report.attempt_id)
    if attempt is not None:
        to = AttemptState(report.state)
        if attempt.agent_id != member.agent_id or to not in ATTEMPT_TRANSITIONS[attempt.state]:
            return ()
        if to is AttemptState.RUNNING:
            return (ev.AttemptStarted(report.attempt_id, report.started_at),)
        return (ev.AttemptFinished(**finished_fields(report)),)
    number = _number(state, member, line)
    if not number:
        return ()
    if known := state.recovered.get(report.attempt_id):  # by an earlier restore, perhaps as running
        return recovered_end(state, report) if known.agent_id == member.agent_id else ()
    return (
        ev.AttemptRecovered(
            attempt_id=report.attempt_id,
            step_id=line.step_id,
            kind=line.kind,
            number=number,
            agent_id=member.agent_id,
            session_epoch=report.session_epoch,
            started=line.started,
            report=finished_fields(report),
        ),
    )


def _number(state: Execution, member: Member, line: Remembered) -> int:
    """Returns the attempt's number; 0 when it is none of this execution or not for this agent."""
    if line.step_id not in state.steps or line.kind not in KINDS:
        return 0
    body = state.compiled_step(line.step_id).body
    if line.kind == "forward" and not able(demand_of(body), member.view()):
        return 0
    return number_of(state, line.step_id, line.kind, line.report.attempt_id)


def _row(execution_id: str, event: ev.AttemptRecovered) -> AttemptRow:
    return AttemptRow(
        attempt_id=event.attempt_id,
        execution_id=execution_id,
        step_id=event.step_id,
        kind=event.kind,
        number=event.number,
        agent_id=event.agent_id,
        session_epoch=event.session_epoch,
        state=event.report["state"],
        start_order=None,
        data=b"{}",
    )


def _fields(event: ev.AttemptRecovered) -> dict[str, Any]:
    return ev.to_json(event)


def _in_words(member: Member, line: Remembered) -> str:
    words = line.report.state.replace("_", " ")
    return f"{line.execution_id} step {line.step_id} ({line.kind}) on {member.name}: {words}"
