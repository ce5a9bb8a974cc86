"""AgentService: enrolment, the control stream and the output stream. See agent_service.proto."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC
from typing import TYPE_CHECKING

from opsconductor.orchestrator.engine.agents import HEARTBEAT_INTERVAL, SESSION_TIMEOUT
from opsconductor.orchestrator.engine.messages import Introduction, Report
from opsconductor.orchestrator.servicers import wire
from opsconductor.orchestrator.servicers.agent_session import AgentSession
from opsconductor.orchestrator.store.base import AppendOutput
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import (
    HelloRequired,
    NotFound,
    NotYourAttempt,
    OutputConflict,
    PermissionDenied,
    ProtocolError,
    StoreUnavailable,
    VersionUnsupported,
)
from opsconductor.rpc.failpoints import hit
from opsconductor.rpc.identity import certificate_of, identity_of
from opsconductor.v1 import agent_service_pb2 as pb
from opsconductor.v1 import agent_service_pb2_grpc as pb_grpc
from opsconductor.v1 import execution_service_pb2 as execution_pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from opsconductor.orchestrator.engine.agents import Agents
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.enrolment import Enrolment
    from opsconductor.orchestrator.engine.fleet import Fleet, Member
    from opsconductor.orchestrator.engine.history import History
    from opsconductor.orchestrator.servicers.call import Context
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

PROTOCOL_VERSION = 1
MAX_CHUNK = 64 * 1024


class AgentServicer(pb_grpc.AgentServiceServicer):
    """Talks with agents."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        agents: Agents,
        enrolment: Enrolment,
        engine: Engine,
        history: History,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._agents = agents
        self._enrolment = enrolment
        self._engine = engine
        self._history = history
        self._clock = clock

    async def Enroll(  # noqa: N802
        self, request: pb.EnrollRequest, context: Context
    ) -> pb.EnrollResponse:
        """See agent_service.proto."""
        tenant = identity_of(context).tenant
        member, certificate, ca = await self._enrolment.enrol(request.token, request.csr, tenant)
        return pb.EnrollResponse(
            agent_id=member.agent_id,
            name=member.name,
            segment=member.segment,
            certificate=certificate,
            ca_certificate=ca,
        )

    async def RenewCertificate(  # noqa: N802
        self, request: pb.RenewCertificateRequest, context: Context
    ) -> pb.RenewCertificateResponse:
        """See agent_service.proto."""
        certificate = await self._enrolment.renew(self._member(context), request.csr)
        return pb.RenewCertificateResponse(certificate=certificate)

    async def Control(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.AgentFrame],
        context: Context,
    ) -> AsyncIterator[pb.OrchestratorFrame]:
        """See agent_service.proto."""
        member = self._member(context)
        frames = aiter(request_iterator)
        hello = await _hello(frames)
        session = AgentSession()
        said = _introduction(hello)
        member = await self._agents.connect(member.agent_id, said, session)
        yield _welcome(member, self._store.incarnation)
        reader = asyncio.create_task(self._read(member, session, frames, said))
        expiry = self._end_with_certificate(session, context)
        try:
            while (frame := await session.next()) is not None:
                yield frame
            if reader.done() and not reader.cancelled() and (error := reader.exception()):
                raise error
        finally:
            expiry.cancel()
            reader.cancel()
            self._agents.disconnect(member, session)

    async def Output(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.OutputChunk],
        context: Context,
    ) -> AsyncIterator[pb.OutputAck]:
        """See agent_service.proto."""
        member = self._member(context)
        owned: dict[str, str] = {}
        async for chunk in request_iterator:
            if len(chunk.data) > MAX_CHUNK:
                raise ProtocolError(f"a chunk of {len(chunk.data)} bytes is above {MAX_CHUNK}")
            if chunk.attempt_id not in owned:
                owned[chunk.attempt_id] = await self._owned(member, chunk.attempt_id)
            stored = await self._append(chunk)
            hit("output.after_write_before_ack")
            self._history.output_arrived(owned[chunk.attempt_id])
            yield pb.OutputAck(attempt_id=chunk.attempt_id, stream=chunk.stream, stored=stored)

    async def _append(self, chunk: pb.OutputChunk) -> int:
        """Stores a chunk; returns the stored length. Raises OutputConflict naming the attempt."""
        operation = AppendOutput(chunk.attempt_id, chunk.stream, chunk.offset, chunk.data)
        try:
            (stored,) = await self._store.commit(operation)
        except OutputConflict as exc:
            # The agent sets aside the output it names, and goes on with the rest.
            metadata = {"attempt_id": chunk.attempt_id}
            raise OutputConflict(exc.message, metadata=metadata) from exc
        return int(stored)

    async def _owned(self, member: Member, attempt_id: str) -> str:
        """Returns the execution of an attempt of this agent. Raises NotYourAttempt, NotFound."""
        row = await self._store.attempt(attempt_id)
        metadata = {"attempt_id": attempt_id}
        if row is None:
            raise NotFound(f"there is no attempt {attempt_id}", metadata=metadata)
        if row.agent_id != member.agent_id:
            text = f"attempt {attempt_id} was granted to {row.agent_id}"
            raise NotYourAttempt(text, metadata=metadata)
        return row.execution_id

    def _member(self, context: Context) -> Member:
        identity = identity_of(context)
        member = self._fleet.get(identity.name)
        if member is None or member.tenant != identity.tenant:
            raise PermissionDenied(f"agent {identity.name} is not enrolled here")
        return member

    async def _read(
        self,
        member: Member,
        session: AgentSession,
        frames: AsyncIterator[pb.AgentFrame],
        said: Introduction,
    ) -> None:
        """Takes the agent's frames until the stream ends; always ends the session."""
        try:
            await self._agents.agree(member, said)
            async for frame in frames:
                await self._take(member, session, frame)
            session.close("the agent closed the stream")
        except StoreUnavailable as exc:
            # Nothing was acknowledged: the agent connects again and reports again.
            session.close(f"the store is not available: {exc.message}")
            raise
        except Exception as exc:
            session.close(f"{type(exc).__name__}")
            raise

    async def _take(self, member: Member, session: AgentSession, frame: pb.AgentFrame) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "heartbeat":
            if frame.heartbeat.number <= session.beat:
                raise ProtocolError(f"heartbeat {frame.heartbeat.number} came after {session.beat}")
            session.beat = frame.heartbeat.number
            self._agents.heard(member)
            echo = pb.HeartbeatEcho(number=session.beat)
            session.send(pb.OrchestratorFrame(heartbeat=echo))
        elif kind == "report":
            await self._agents.report(member, _report(frame.report))
        elif kind == "draining":
            self._agents.stop_taking(member)
        elif kind == "hello":
            raise ProtocolError("a second Hello on one stream")
        else:
            raise ProtocolError("a frame without a known content")

    def _end_with_certificate(self, session: AgentSession, context: Context) -> asyncio.TimerHandle:
        """Ends the session when the agent's certificate does: TLS itself does not look again."""
        left = (certificate_of(context).not_after - self._clock()).total_seconds()
        loop = asyncio.get_running_loop()
        return loop.call_later(
            max(0.0, min(left, 86_400 * 20)), session.close, "the agent's certificate has ended"
        )


async def _hello(frames: AsyncIterator[pb.AgentFrame]) -> pb.Hello:
    frame = await anext(frames, None)
    if frame is None or frame.WhichOneof("frame") != "hello":
        raise HelloRequired("the first frame of a control stream must be a Hello")
    if frame.hello.protocol_version != PROTOCOL_VERSION:
        raise VersionUnsupported(
            f"protocol version {frame.hello.protocol_version} is not supported; "
            f"supported is {PROTOCOL_VERSION}"
        )
    return frame.hello


def _welcome(member: Member, incarnation: str) -> pb.OrchestratorFrame:
    return pb.OrchestratorFrame(
        welcome=pb.Welcome(
            session_epoch=member.session_epoch,
            incarnation=incarnation,
            heartbeat_interval=wire.duration(HEARTBEAT_INTERVAL),
            session_timeout=wire.duration(SESSION_TIMEOUT),
            agent_id=member.agent_id,
        )
    )


def _introduction(hello: pb.Hello) -> Introduction:
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
        attempts=tuple(_report(report) for report in hello.attempts),
        tool_digests=dict(hello.tool_digests),
    )


def _report(message: pb.AttemptReport) -> Report:
    try:
        state = execution_pb.AttemptState.Name(message.state)
        effects = execution_pb.Effects.Name(message.effects)
        output = canonical.loads(message.output) if message.output else None
        captured = canonical.loads(message.captured) if message.captured else None
    except ValueError as exc:
        raise ProtocolError(f"a report about {message.attempt_id} cannot be read: {exc}") from exc
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
        survivors=tuple(message.survivors),
        started_at=_time(message, "start_time"),
        ended_at=_time(message, "end_time"),
        command=message.command,
    )


def _time(message: pb.AttemptReport, name: str) -> str:
    if not message.HasField(name):  # type: ignore[arg-type]
        return ""
    time: datetime = getattr(message, name).ToDatetime(tzinfo=UTC)
    return time.isoformat()
