"""Executions on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.narrate import (
    execution_summary,
    step_summary,
    tell,
)
from opsconductor.orchestrator.engine.rows import progress
from opsconductor.orchestrator.servicers import wire
from opsconductor.rpc import canonical
from opsconductor.v1 import execution_service_pb2 as pb
from opsconductor.v1 import plan_service_pb2 as plan_pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution, StepRecord
    from opsconductor.orchestrator.engine.history import Watched
    from opsconductor.orchestrator.engine.outputs import Gap, Piece
    from opsconductor.orchestrator.store.rows import ExecutionRow


@dataclass(frozen=True)
class Kept:
    """What is stored of an attempt's output."""

    complete: bool = False
    gaps: tuple[Gap, ...] = ()


NOTHING_KEPT = Kept()


def execution_state(word: str) -> pb.ExecutionState.ValueType:
    """Returns the wire value of an execution state's word."""
    return pb.ExecutionState.Value(f"EXECUTION_STATE_{word.upper()}")


def step_state(word: str) -> pb.StepState.ValueType:
    """Returns the wire value of a step state's word."""
    return pb.StepState.Value(f"STEP_STATE_{word.upper()}")


def attempt_state(word: str) -> pb.AttemptState.ValueType:
    """Returns the wire value of an attempt state's word."""
    return pb.AttemptState.Value(f"ATTEMPT_STATE_{word.upper()}")


def effects(word: str) -> pb.Effects.ValueType:
    """Returns the wire value of what may have changed."""
    return pb.Effects.Value(f"EFFECTS_{word.upper()}") if word else pb.EFFECTS_UNSPECIFIED


def execution(
    state: Execution, waiting: Mapping[str, str], kept: Mapping[str, Kept]
) -> pb.Execution:
    """Returns an execution whole.

    Args:
        state: The execution.
        waiting: Why ready steps have no agent yet, by step.
        kept: What is there of attempts' output, by attempt.
    """
    compiled = state.compiled
    steps = [
        _step(state, step.step_id, waiting, kept)
        for step in (*compiled.steps, *(compiled.rollback if state.undo else ()))
    ]
    return pb.Execution(
        execution_id=state.execution_id,
        external_id=state.external_id,
        plan_id=compiled.plan_id,
        name=compiled.name,
        state=execution_state(state.state),
        error_message=state.reason,
        create_time=wire.timestamp(state.created_at),
        start_time=wire.timestamp(state.started_at),
        end_time=wire.timestamp(state.ended_at),
        steps=steps,
        risk=wire.risk(compiled.risk),
        approval_level=compiled.level.level,
        approved_by=approved_by(state),
        approval_time=wire.timestamp(state.approved_at),
        trace_id=state.trace_id,
        run=compiled.run,
        estimate=wire.duration(compiled.estimate),
        last_seq=state.last_seq,
        pending_approval_ids=[item.approval_id for item in state.pending_approvals()],
        requester=requester(state),
        context=wire.struct(compiled.context),
        plan_digest=compiled.plan_digest,
        revision=len(state.revisions),
        progress=progress(state),
        summary=execution_summary(state),
    )


def approved_by(state: Execution) -> list[str]:
    """Returns the people whose approval let it run, or the policy rule that asked nobody."""
    people = [
        decision.person
        for approval in state.approvals.values()
        if approval.state == "approved"
        for decision in approval.decisions
        if decision.kind == "approve"
    ]
    return list(dict.fromkeys(people)) or (
        [state.auto_approved_by] if state.auto_approved_by else []
    )


def requester(state: Execution) -> str:
    """Returns who asked, and through which service."""
    if state.submitted_by == state.requester:
        return state.requester
    return f"{state.requester} through {state.submitted_by}"


def listed(row: ExecutionRow) -> pb.Execution:
    """Returns an execution as a list shows it, from its row alone."""
    summary = canonical.loads(row.summary)
    risk = summary["risk"]
    return pb.Execution(
        execution_id=row.execution_id,
        external_id=row.external_id,
        plan_id=row.plan_id,
        name=row.name,
        state=execution_state(row.state),
        error_message=summary["reason"],
        create_time=wire.timestamp(row.create_time),
        start_time=wire.timestamp(row.start_time),
        end_time=wire.timestamp(row.end_time),
        risk=plan_pb.Risk(
            risk_class=plan_pb.RiskClass.Value(f"RISK_CLASS_{risk['class'].upper()}"),
            level=plan_pb.RiskLevel.Value(f"RISK_LEVEL_{risk['level'].upper()}"),
            reasons=risk["reasons"],
        ),
        approval_level=summary["level"],
        trace_id=summary["trace_id"],
        run=summary["run"],
        last_seq=row.last_seq,
        requester=summary["requester"],
        progress=summary["progress"],
    )


def _step(
    state: Execution, step_id: str, waiting: Mapping[str, str], kept: Mapping[str, Kept]
) -> pb.StepStatus:
    record = state.steps[step_id]
    compiled = state.compiled_step(step_id)
    attempts = [state.attempts[attempt_id] for attempt_id in record.attempt_ids]
    last = next((item for item in reversed(attempts) if item.command), None)
    message = pb.StepStatus(
        step_id=step_id,
        tool=compiled.tool,
        target=compiled.target_name,
        state=step_state(record.state),
        effects=effects(record.effects),
        start_time=wire.timestamp(record.started_at),
        end_time=wire.timestamp(record.ended_at),
        error=_error(record.error),
        attempts=[attempt(item, kept.get(item.attempt_id, NOTHING_KEPT)) for item in attempts],
        command=last.command if last else compiled.command,
        risk=wire.risk(compiled.risk),
        digest=compiled.digest,
        summary=_summary(state, record, waiting),
    )
    if record.output is not None:
        message.output.CopyFrom(wire.value(record.output))
    return message


def _summary(state: Execution, record: StepRecord, waiting: Mapping[str, str]) -> str:
    return waiting.get(record.step_id) or step_summary(state, record)


def attempt(item: Attempt, kept: Kept) -> pb.Attempt:
    """Returns an attempt."""
    return pb.Attempt(
        attempt_id=item.attempt_id,
        kind=item.kind,
        number=item.number,
        state=attempt_state(item.state),
        agent_id=item.agent_id,
        routing_reason=item.routing_reason,
        grant_time=wire.timestamp(item.granted_at),
        start_time=wire.timestamp(item.started_at),
        end_time=wire.timestamp(item.ended_at),
        exit_code=item.exit_code,
        stdout_bytes=item.stdout_bytes,
        stderr_bytes=item.stderr_bytes,
        stdout_sha256=item.stdout_sha256,
        stderr_sha256=item.stderr_sha256,
        error=_error(item.error),
        survivors=list(item.survivors),
        output_complete=kept.complete,
        output_gaps=[
            pb.OutputGap(
                stream=pb.OutputStream.ValueType(gap.stream), offset=gap.offset, bytes=gap.size
            )
            for gap in kept.gaps
        ],
    )


def _error(error: Any) -> pb.StepError | None:
    if not error:
        return None
    return pb.StepError(
        code=error.get("code", ""),
        message=error.get("message", ""),
        error_class=error.get("error_class", ""),
    )


_SHOWN_ELSEWHERE = (
    *("step_id", "attempt_id", "compiled", "plan_document", "output", "captured", "report"),
)


def event(item: Watched) -> pb.WatchResponse:
    """Returns an event for watchers; bulky and secret fields are left to Get and ReadOutput."""
    fields = ev.to_json(item.recorded.event)
    state = item.state
    step_id = fields.get("step_id") or _step_of(state, fields.get("attempt_id", ""))
    record = state.steps.get(step_id)
    return pb.WatchResponse(
        seq=item.stored.seq,
        time=wire.timestamp(item.stored.time),
        type=item.stored.type,
        step_id=step_id,
        attempt_id=fields.get("attempt_id", ""),
        summary=tell(state, item.recorded.event),
        detail=wire.struct(
            {key: entry for key, entry in fields.items() if key not in _SHOWN_ELSEWHERE}
        ),
        execution_state=execution_state(state.state),
        step_state=step_state(record.state) if record else pb.STEP_STATE_UNSPECIFIED,
        progress=progress(state),
        hash=item.stored.hash,
    )


def _step_of(state: Execution, attempt_id: str) -> str:
    found = state.attempts.get(attempt_id)
    return found.step_id if found else ""


def piece(item: Piece) -> pb.ReadOutputResponse:
    """Returns a piece of output."""
    return pb.ReadOutputResponse(
        step_id=item.attempt.step_id,
        attempt_id=item.attempt.attempt_id,
        stream=pb.OutputStream.ValueType(item.stream),
        offset=item.offset,
        data=item.data,
        gap_bytes=item.gap,
    )
