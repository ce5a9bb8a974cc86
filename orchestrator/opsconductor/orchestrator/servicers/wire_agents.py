"""Agents' frames on the wire."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.engine.agents import HEARTBEAT_INTERVAL, SESSION_TIMEOUT
from opsconductor.orchestrator.engine.messages import Introduction, Remembered, Report
from opsconductor.orchestrator.servicers import wire
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import HelloRequired, ProtocolError, VersionUnsupported
from opsconductor.v1 import agent_service_pb2 as pb
from opsconductor.v1 import execution_service_pb2 as execution_pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime

    from opsconductor.orchestrator.engine.fleet import Member
    from opsconductor.orchestrator.engine.replica import Replica

PROTOCOL_VERSION = 1
MAX_EPOCH = 2**53
"""No agent has seen a higher one."""


async def read_hello(frames: AsyncIterator[pb.AgentFrame]) -> pb.Hello:
    """Takes the first frame of a stream; raises when it is no Hello we understand."""
    frame = await anext(frames, None)
    if frame is None or frame.WhichOneof("frame") != "hello":
        raise HelloRequired("the first frame of a control stream must be a Hello")
    if not 0 <= frame.hello.last_session_epoch <= MAX_EPOCH:
        raise ProtocolError(f"session epoch {frame.hello.last_session_epoch} cannot be")
    if frame.hello.protocol_version != PROTOCOL_VERSION:
        raise VersionUnsupported(
            f"protocol version {frame.hello.protocol_version} is not supported; "
            f"supported is {PROTOCOL_VERSION}"
        )
    return frame.hello


def welcome(member: Member, incarnation: str, replica: Replica) -> pb.OrchestratorFrame:
    """Returns the answer to a Hello."""
    return pb.OrchestratorFrame(
        welcome=pb.Welcome(
            session_epoch=member.session_epoch,
            incarnation=incarnation,
            heartbeat_interval=wire.duration(HEARTBEAT_INTERVAL),
            session_timeout=wire.duration(SESSION_TIMEOUT),
            agent_id=member.agent_id,
            replica_id=replica.replica_id,
            endpoints=replica.endpoints,
            restored_from=member.hands_over,
        )
    )


def introduction(hello: pb.Hello) -> Introduction:
    """Returns what an agent says of itself; ProtocolError when a report cannot be read."""
    return Introduction(
        version=hello.version,
        journal_id=hello.journal_id,
        boot_id=hello.boot_id,
        services=tuple(hello.services),
        methods=tuple(hello.methods),
        labels=dict(hello.labels),
        capacity=hello.capacity,
        last_session_epoch=hello.last_session_epoch,
        incarnation=hello.incarnation,
        attempts=tuple(report(each) for each in hello.attempts),
        tool_digests=dict(hello.tool_digests),
        instance_id=hello.instance_id,
        clock_time=hello.clock_time.ToDatetime(tzinfo=UTC)
        if hello.HasField("clock_time")
        else None,
    )


def remembered(entry: pb.JournalEntry) -> Remembered:
    """Returns an attempt of an agent's journal."""
    return Remembered(
        report=report(entry.report),
        execution_id=entry.execution_id,
        step_id=entry.step_id,
        kind=entry.kind,
        started=entry.started,
    )


def report(message: pb.AttemptReport) -> Report:
    """Returns an agent's report; ProtocolError when it cannot be read."""
    try:
        state = execution_pb.AttemptState.Name(message.state)
        effects = execution_pb.Effects.Name(message.effects)
        output = canonical.loads(message.output) if message.output else None
        captured = canonical.loads(message.captured) if message.captured else None
    except ValueError as exc:
        raise ProtocolError(f"a report about {message.attempt_id} cannot be read: {exc}") from exc
    if message.state == execution_pb.ATTEMPT_STATE_UNSPECIFIED:
        raise ProtocolError(f"a report about {message.attempt_id} says no state")
    error = None
    if message.HasField("error"):
        error = {
            "code": message.error.code,
            "message": message.error.message,
            "error_class": message.error.error_class,
        }
    word = effects.removeprefix("EFFECTS_").lower()
    return Report(
        attempt_id=message.attempt_id,
        state=state.removeprefix("ATTEMPT_STATE_").lower(),
        effects="possible" if word == "unspecified" else word,
        error=error,
        exit_code=message.exit_code if message.HasField("exit_code") else None,
        output=output,
        captured=captured,
        stdout_bytes=message.stdout_bytes,
        stderr_bytes=message.stderr_bytes,
        stdout_sha256=message.stdout_sha256,
        stderr_sha256=message.stderr_sha256,
        gaps=tuple(_gaps(message)),
        survivors=tuple(message.survivors),
        started_at=_time(message, "start_time"),
        ended_at=_time(message, "end_time"),
        command=message.command,
        session_epoch=message.session_epoch,
    )


def _gaps(message: pb.AttemptReport) -> Iterator[dict[str, Any]]:
    if message.stdout_left_out > 0:
        offset = min(message.stdout_gap_offset, message.stdout_bytes)
        yield {"stream": "stdout", "offset": offset, "bytes": message.stdout_left_out}
    if message.stderr_left_out > 0:
        offset = min(message.stderr_gap_offset, message.stderr_bytes)
        yield {"stream": "stderr", "offset": offset, "bytes": message.stderr_left_out}


def _time(message: pb.AttemptReport, name: str) -> str:
    if not message.HasField(name):  # type: ignore[arg-type]
        return ""
    time: datetime = getattr(message, name).ToDatetime(tzinfo=UTC)
    return time.isoformat()
