"""AgentService: enrolment, the control stream and the output stream. See agent_service.proto."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from opsconductor.orchestrator.engine.output_room import CHUNK_BYTES, STREAMS, OutputRoom
from opsconductor.orchestrator.servicers import wire_agents
from opsconductor.orchestrator.servicers.agent_session import AgentSession
from opsconductor.orchestrator.store.base import AppendOutput
from opsconductor.rpc.errors import (
    NotFound,
    NotYourAttempt,
    OpsConductorError,
    OutputConflict,
    PermissionDenied,
    ProtocolError,
    StoreUnavailable,
)
from opsconductor.rpc.failpoints import hit
from opsconductor.rpc.identity import certificate_of, identity_of
from opsconductor.v1 import agent_service_pb2 as pb
from opsconductor.v1 import agent_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from opsconductor.orchestrator.engine.agents import Agents
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.enrolment import Enrolment
    from opsconductor.orchestrator.engine.fleet import Fleet, Member
    from opsconductor.orchestrator.engine.history import History
    from opsconductor.orchestrator.engine.messages import Introduction
    from opsconductor.orchestrator.engine.replica import Replica
    from opsconductor.orchestrator.servicers.call import Context
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

OWNED_KEPT = 10_000
"""Attempts of one output stream whose execution is remembered."""


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
        replica: Replica,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._replica = replica
        self._fleet = fleet
        self._agents = agents
        self._enrolment = enrolment
        self._engine = engine
        self._history = history
        self._clock = clock
        self._room = OutputRoom(store)

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
        certificate = await self._enrolment.renew(await self._member(context), request.csr)
        return pb.RenewCertificateResponse(certificate=certificate)

    async def Control(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.AgentFrame],
        context: Context,
    ) -> AsyncIterator[pb.OrchestratorFrame]:
        """See agent_service.proto."""
        member = await self._member(context)
        frames = aiter(request_iterator)
        hello = await wire_agents.read_hello(frames)
        session = AgentSession(hello.session_nonce)
        said = wire_agents.introduction(hello)
        member = await self._agents.connect(member.agent_id, said, session)
        try:
            yield wire_agents.welcome(member, self._store.incarnation, self._replica)
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
        finally:
            self._agents.disconnect(member, session)

    async def Output(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.OutputChunk],
        context: Context,
    ) -> AsyncIterator[pb.OutputAck]:
        """See agent_service.proto."""
        member = await self._member(context)
        owned: dict[str, str] = {}
        async for chunk in request_iterator:
            if len(chunk.data) > CHUNK_BYTES:
                raise ProtocolError(f"a chunk of {len(chunk.data)} bytes is above {CHUNK_BYTES}")
            if chunk.stream not in STREAMS:
                raise ProtocolError(f"output of a stream {chunk.stream}, which there is not")
            if chunk.attempt_id not in owned:
                if len(owned) >= OWNED_KEPT:
                    owned.clear()
                owned[chunk.attempt_id] = await self._owned(member, chunk.attempt_id)
            await self._room.check(owned[chunk.attempt_id], chunk.attempt_id, len(chunk.data))
            stored = await self._append(chunk)
            self._room.stored(owned[chunk.attempt_id], chunk.attempt_id, chunk.stream, stored)
            hit("output.after_write_before_ack")
            self._history.outputs.arrived(owned[chunk.attempt_id])
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

    async def _member(self, context: Context) -> Member:
        identity = identity_of(context)
        member = await self._agents.find(identity.name, identity.tenant)
        if member is None:
            await self._agents.restoring.stranger(identity.name)
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
            if member.hands_over:
                await self._take_journal(member, session, frames)
            await self._agents.agree(member, said)
            async for frame in frames:
                await self._take(member, session, frame)
            session.close("the agent closed the stream")
        except StoreUnavailable as exc:
            # Nothing was acknowledged: the agent connects again and reports again.
            session.close(f"the store is not available: {exc.message}")
            raise
        except OpsConductorError as exc:
            LOG.warning("agent %s: the session ends: %s", member.name, exc.message)
            session.close(exc.message)
            raise
        except Exception as exc:
            session.close(f"{type(exc).__name__}")
            raise

    async def _take_journal(
        self, member: Member, session: AgentSession, frames: AsyncIterator[pb.AgentFrame]
    ) -> None:
        """Takes in what an agent remembers, after a restore of the store; then it may belong."""
        incarnation = self._store.incarnation
        async for frame in frames:
            if frame.WhichOneof("frame") != "journal":
                raise ProtocolError("expected the agent's journal, which Welcome asked for")
            lines = [wire_agents.remembered(entry) for entry in frame.journal.entries]
            await self._agents.hand_over(member, lines, last=frame.journal.last)
            if frame.journal.last:
                taken = pb.JournalTaken(incarnation=incarnation)
                session.send(pb.OrchestratorFrame(journal_taken=taken))
                return

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
            await self._agents.report(member, wire_agents.report(frame.report))
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
