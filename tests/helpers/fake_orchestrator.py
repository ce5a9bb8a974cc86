"""An orchestrator that does as a test says: one AgentService on a loopback port, without TLS."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc

from opsconductor.rpc.errors import NotYourAttempt, OpsConductorError
from opsconductor.rpc.status import to_status
from opsconductor.v1 import agent_service_pb2 as pb
from opsconductor.v1 import agent_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from opsconductor.agent.order import Order


PATIENCE = 30.0
"""Seconds until what is waited for does not come any more."""


class Connection:
    """One control stream as the server sees it."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.hello = pb.Hello()
        self.frames: list[pb.AgentFrame] = []
        self._out: asyncio.Queue[bytes | None] = asyncio.Queue()

    def send(self, **frame: Any) -> None:
        self.send_bytes(pb.OrchestratorFrame(**frame).SerializeToString())

    def send_bytes(self, frame: bytes) -> None:
        self._out.put_nowait(frame)

    def end(self) -> None:
        self._out.put_nowait(None)

    def assign(self, order: Order, **changes: Any) -> None:
        assign = pb.Assign(
            attempt_id=order.attempt_id,
            execution_id=order.execution_id,
            step_id=order.step_id,
            kind=order.kind,
            number=order.number,
            body=order.body,
            manifest=order.manifest,
            approvals=[
                pb.SignedApproval(statement=each.statement, signature=each.signature)
                for each in order.approvals
            ],
            late_inputs=order.late_inputs,
            beat=order.beat,
            session_epoch=self.epoch,
            session_nonce=self.hello.session_nonce,
        )
        assign.start_ttl.FromTimedelta(timedelta(seconds=order.start_ttl))
        assign.MergeFrom(pb.Assign(**changes))
        self.send(assign=assign)

    def ack(self, attempt_id: str) -> None:
        self.send(report_ack=pb.ReportAck(attempt_id=attempt_id))

    async def outgoing(self) -> AsyncIterator[bytes]:
        while (frame := await self._out.get()) is not None:
            yield frame


class FakeOrchestrator(pb_grpc.AgentServiceServicer):
    """Accepts agents, keeps every frame and every byte of output."""

    def __init__(
        self,
        credentials: grpc.ServerCredentials | None = None,
        sign: Callable[[bytes], bytes] | None = None,
        port: int = 0,
    ) -> None:
        self.sign = sign
        """Turns a certificate request into a certificate."""
        self.tokens: list[str] = []
        self.connections: list[Connection] = []
        self.hellos = 0
        self.output: dict[tuple[str, int], bytearray] = defaultdict(bytearray)
        self.chunks: list[tuple[int, int]] = []
        self.epoch = 0
        self.incarnation = "inc-1"
        self.restored_from = ""
        """What Welcomes say an operator has confirmed."""
        self.replica_id = f"replica-{id(self)}"
        self.endpoints: list[str] = []
        """What Welcomes name."""
        self.refusal: OpsConductorError | None = None
        """Answers every Hello, when set."""
        self.echo = True
        self.heartbeat = 0.05
        self.timeout = 2.0
        self.end_output_after = 0
        """Ends each output stream after so many chunks; 0 never."""
        self.ack_stream = 0
        """Stream that every acknowledgement of output names; 0 the right one."""
        self.stop_output_at = 0
        """Takes no more output once so many bytes are stored; 0 never."""
        self.refused_output = ""
        """Attempt whose output is answered with NOT_YOUR_ATTEMPT."""
        self.gate: asyncio.Event | None = None
        """Holds every Welcome until it is set."""
        self._changed = asyncio.Condition()
        self._server = grpc.aio.server()
        pb_grpc.add_AgentServiceServicer_to_server(self, self._server)
        # Frames leave as bytes, so that a test can send some that are none.
        raw: Any = grpc.stream_stream_rpc_method_handler(self.Control, pb.AgentFrame.FromString)
        self._server.add_registered_method_handlers(
            "opsconductor.v1.AgentService", {"Control": raw}
        )
        if credentials is None:
            self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        else:
            self.port = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)

    async def __aenter__(self) -> FakeOrchestrator:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def open_channel(self, endpoint: str) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(endpoint, [("grpc.enable_http_proxy", 0)])

    async def renew_when_due(self, _: grpc.aio.Channel) -> None:
        await asyncio.Event().wait()

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Waits until something is true of what has arrived, and returns it."""
        async with asyncio.timeout(PATIENCE), self._changed:
            while not (found := condition()):
                await self._changed.wait()
            return found

    async def connection(self, number: int = 1) -> Connection:
        """Waits for the number-th connection whose Hello has arrived."""
        await self.until(lambda: len(self.connections) >= number)
        return self.connections[number - 1]

    async def report(self, attempt_id: str, connection: int = 1) -> pb.AttemptReport:
        """Waits for the final report of an attempt on a connection."""
        found = await self.until(lambda: self._final(attempt_id, connection))
        assert isinstance(found, pb.AttemptReport)
        return found

    def _final(self, attempt_id: str, connection: int) -> pb.AttemptReport | None:
        if len(self.connections) < connection:
            return None
        for frame in self.connections[connection - 1].frames:
            if frame.report.attempt_id == attempt_id and frame.report.HasField("end_time"):
                return frame.report
        return None

    async def Control(  # type: ignore[override]  # noqa: N802
        self, requests: AsyncIterator[pb.AgentFrame], context: Any
    ) -> AsyncIterator[bytes]:
        hello = (await anext(requests)).hello
        self.hellos += 1
        if self.refusal is not None:
            status = to_status(self.refusal)
            await self._notify()
            await context.abort(status.code, status.message, status.metadata)
        self.epoch += 1
        connection = Connection(self.epoch)
        connection.hello.CopyFrom(hello)
        welcome = pb.Welcome(
            session_epoch=self.epoch,
            incarnation=self.incarnation,
            replica_id=self.replica_id,
            endpoints=self.endpoints,
            restored_from=self.restored_from,
        )
        welcome.heartbeat_interval.FromTimedelta(timedelta(seconds=self.heartbeat))
        welcome.session_timeout.FromTimedelta(timedelta(seconds=self.timeout))
        self.connections.append(connection)
        await self._notify()
        if self.gate is not None:
            await self.gate.wait()
        yield pb.OrchestratorFrame(welcome=welcome).SerializeToString()
        reader = asyncio.create_task(self._read(connection, requests))
        try:
            async for frame in connection.outgoing():
                yield frame
        finally:
            reader.cancel()

    async def Enroll(  # noqa: N802
        self, request: pb.EnrollRequest, context: Any
    ) -> pb.EnrollResponse:
        assert self.sign is not None
        self.tokens.append(request.token)
        return pb.EnrollResponse(
            agent_id="agent_1",
            name="local",
            segment="dmz",
            certificate=self.sign(request.csr),
        )

    async def RenewCertificate(  # noqa: N802
        self, request: pb.RenewCertificateRequest, context: Any
    ) -> pb.RenewCertificateResponse:
        assert self.sign is not None
        return pb.RenewCertificateResponse(certificate=self.sign(request.csr))

    async def Output(  # noqa: N802
        self, requests: AsyncIterator[pb.OutputChunk], context: Any
    ) -> AsyncIterator[pb.OutputAck]:
        count = 0
        async for chunk in requests:
            if chunk.attempt_id == self.refused_output:
                error = NotYourAttempt("not yours", metadata={"attempt_id": chunk.attempt_id})
                status = to_status(error)
                await context.abort(status.code, status.message, status.metadata)
            stored = self.output[chunk.attempt_id, chunk.stream]
            if 0 < self.stop_output_at <= len(stored):
                await asyncio.Event().wait()
            self.chunks.append((chunk.offset, len(chunk.data)))
            if chunk.offset == len(stored):
                stored += chunk.data
            await self._notify()
            stream: Any = self.ack_stream or chunk.stream
            yield pb.OutputAck(attempt_id=chunk.attempt_id, stream=stream, stored=len(stored))
            count += 1
            if count == self.end_output_after:
                return

    async def _read(self, connection: Connection, requests: AsyncIterator[pb.AgentFrame]) -> None:
        async for frame in requests:
            connection.frames.append(frame)
            if frame.HasField("heartbeat") and self.echo:
                connection.send(heartbeat=pb.HeartbeatEcho(number=frame.heartbeat.number))
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
