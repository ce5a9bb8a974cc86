# ruff: noqa: N802 - servicer methods are named by the contract
"""Calls over mutual TLS: identity decides, and errors arrive as the classes that were raised."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from helpers.secure_server import SecureServer
from opsconductor.rpc.channel import SERVER_MESSAGE_BYTES
from opsconductor.rpc.errors import (
    Fault,
    Internal,
    NotFound,
    OpsConductorError,
    PermissionDenied,
    PlanInvalid,
    QueueFull,
)
from opsconductor.rpc.identity import certificate_of, identity_of
from opsconductor.rpc.status import from_rpc_error
from opsconductor.v1 import agent_service_pb2 as agents
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1 import plan_service_pb2 as plans
from opsconductor.v1.agent_service_pb2_grpc import (
    AgentServiceServicer,
    AgentServiceStub,
    add_AgentServiceServicer_to_server,
)
from opsconductor.v1.execution_service_pb2_grpc import (
    ExecutionServiceServicer,
    ExecutionServiceStub,
    add_ExecutionServiceServicer_to_server,
)
from opsconductor.v1.plan_service_pb2_grpc import (
    PlanServiceServicer,
    PlanServiceStub,
    add_PlanServiceServicer_to_server,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from datetime import datetime

    from opsconductor.orchestrator.pki import CertificateAuthority

FAULTS = [Fault("TYPE", field=f"steps[{n}].inputs.x", found="abc", line=n) for n in range(300)]


class Plans(PlanServiceServicer):
    async def Validate(
        self, request: plans.ValidateRequest, context: Any
    ) -> plans.ValidateResponse:
        return plans.ValidateResponse()

    async def Preview(self, request: plans.PreviewRequest, context: Any) -> plans.PreviewResponse:
        raise PlanInvalid("300 faults", faults=FAULTS)


class Executions(ExecutionServiceServicer):
    def __init__(self) -> None:
        self.raising: Exception = NotFound("no such execution")
        self.closed = asyncio.Event()

    async def Get(self, request: executions.GetRequest, context: Any) -> executions.GetResponse:
        raise self.raising

    async def List(self, request: executions.ListRequest, context: Any) -> executions.ListResponse:
        await context.abort(grpc.StatusCode.ABORTED, "as I say")
        raise AssertionError("abort raises")

    async def Pause(
        self, request: executions.PauseRequest, context: Any
    ) -> executions.PauseResponse:
        peer = certificate_of(context)
        execution = executions.Execution(
            requester=identity_of(context).uri, plan_digest=peer.sha256
        )
        execution.end_time.FromDatetime(peer.not_after)
        return executions.PauseResponse(execution=execution)

    async def Watch(
        self, request: executions.WatchRequest, context: Any
    ) -> AsyncIterator[executions.WatchResponse]:
        try:
            yield executions.WatchResponse(seq=1)
            if request.execution_id == "endless":
                await asyncio.Event().wait()
            raise self.raising
        finally:
            self.closed.set()


class Agents(AgentServiceServicer):
    async def Control(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        await context.write(agents.OrchestratorFrame())
        frame = await context.read()
        raise QueueFull(f"beat {frame.heartbeat.number}", retry_after=timedelta(seconds=3))

    async def Output(self, request_iterator: Any, context: Any) -> AsyncIterator[agents.OutputAck]:
        async for chunk in request_iterator:
            yield agents.OutputAck(attempt_id=chunk.attempt_id)


class CallsServer(SecureServer):
    def __init__(self, ca: CertificateAuthority, now: datetime) -> None:
        super().__init__(ca, now)
        self.executions = Executions()  # type: ignore[abstract]
        add_PlanServiceServicer_to_server(Plans(), self.server)
        add_ExecutionServiceServicer_to_server(self.executions, self.server)
        add_AgentServiceServicer_to_server(Agents(), self.server)  # type: ignore[abstract]


@pytest.fixture
async def server(ca: CertificateAuthority, now: datetime) -> AsyncIterator[CallsServer]:
    server = CallsServer(ca, now)
    await server.server.start()
    yield server
    await server.server.stop(None)


async def failure(awaitable: Awaitable[Any]) -> OpsConductorError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await awaitable
    return from_rpc_error(raised.value)


async def test_the_class_a_servicer_raises_arrives_at_the_caller(server: CallsServer) -> None:
    async with server.channel() as channel:
        error = await failure(ExecutionServiceStub(channel).Get(executions.GetRequest()))
    assert type(error) is NotFound
    assert error.message == "no such execution"


async def test_hundreds_of_faults_arrive_as_far_as_any_client_can_take_them(
    server: CallsServer,
) -> None:
    async with server.channel() as channel:
        error = await failure(PlanServiceStub(channel).Preview(plans.PreviewRequest()))
    assert type(error) is PlanInvalid
    assert error.faults == tuple(FAULTS[: len(error.faults)])
    assert len(error.faults) + int(error.metadata["faults_omitted"]) == 300


async def test_an_unforeseen_failure_leaves_as_an_id_that_stands_in_the_log(
    server: CallsServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.executions.raising = RuntimeError("password=hunter2")
    with caplog.at_level(logging.ERROR, "opsconductor.rpc.interceptors"):
        async with server.channel() as channel:
            error = await failure(ExecutionServiceStub(channel).Get(executions.GetRequest()))
    assert type(error) is Internal
    assert "hunter2" not in error.message
    assert error.metadata["error_id"] in error.message
    assert error.metadata["error_id"] in caplog.text
    assert "hunter2" in caplog.text


async def test_a_stream_that_fails_gives_its_messages_first_and_then_the_error(
    server: CallsServer,
) -> None:
    async with server.channel() as channel:
        call = ExecutionServiceStub(channel).Watch(executions.WatchRequest())
        first = await call.read()
        assert isinstance(first, executions.WatchResponse)
        assert first.seq == 1
        assert type(await failure(call.read())) is NotFound
    await asyncio.wait_for(server.executions.closed.wait(), 10)


async def test_a_caller_that_leaves_closes_the_servicers_generator(server: CallsServer) -> None:
    async with server.channel() as channel:
        request = executions.WatchRequest(execution_id="endless")
        call = ExecutionServiceStub(channel).Watch(request)
        await call.read()
        call.cancel()
        await asyncio.wait_for(server.executions.closed.wait(), 10)


async def test_streams_read_and_written_by_hand_fail_with_details_too(server: CallsServer) -> None:
    async with server.channel("agent", "agent-1") as channel:
        call = AgentServiceStub(channel).Control()
        await call.read()
        await call.write(agents.AgentFrame(heartbeat=agents.Heartbeat(number=7)))
        error = await failure(call.read())
    assert type(error) is QueueFull
    assert error.message == "beat 7"
    assert error.retry_after == timedelta(seconds=3)


async def test_a_servicers_own_abort_is_left_alone(server: CallsServer) -> None:
    async with server.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ExecutionServiceStub(channel).List(executions.ListRequest())
    assert raised.value.code() is grpc.StatusCode.ABORTED
    assert raised.value.details() == "as I say"


@pytest.mark.parametrize("role", ["service", "agent", "enroll"])
async def test_a_role_that_may_not_call_is_refused_before_the_servicer_runs(
    server: CallsServer, role: str
) -> None:
    async with server.channel(role, "intruder") as channel:
        error = await failure(
            ExecutionServiceStub(channel).ResolveUnknown(executions.ResolveUnknownRequest())
        )
    assert type(error) is PermissionDenied
    assert error.metadata["role"] == role


async def test_operators_may_not_open_an_agents_streams(server: CallsServer) -> None:
    async with server.channel() as channel:
        call = AgentServiceStub(channel).Output()
        assert type(await failure(call.read())) is PermissionDenied


async def test_a_method_the_server_offers_but_the_matrix_lacks_is_denied(
    server: CallsServer,
) -> None:
    class Everything(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            async def answer(request: bytes, context: Any) -> bytes:
                return b""

            return grpc.unary_unary_rpc_method_handler(answer)

    server.server.add_generic_rpc_handlers((Everything(),))
    async with server.channel() as channel:
        call: Any = channel.unary_unary("/invented.Service/Call")
        error = await failure(call(b""))
    assert type(error) is PermissionDenied


async def test_a_message_beyond_the_limit_is_refused_with_the_limit(server: CallsServer) -> None:
    document = b"x" * (SERVER_MESSAGE_BYTES + 1)
    request = plans.ValidateRequest(plan=plans.PlanSource(document=document))
    async with server.channel() as channel:
        error = await failure(PlanServiceStub(channel).Validate(request))
    assert "larger than max" in error.message


async def test_a_plan_of_four_mebibytes_still_gets_through(server: CallsServer) -> None:
    request = plans.ValidateRequest(plan=plans.PlanSource(document=b"x" * 4 * 1024 * 1024))
    async with server.channel() as channel:
        await PlanServiceStub(channel).Validate(request)


async def test_the_servicer_sees_who_calls_and_with_which_certificate(server: CallsServer) -> None:
    async with server.channel("operator", "bob@corp", "acme") as channel:
        request = executions.PauseRequest()
        answer = await ExecutionServiceStub(channel).Pause(request)
    assert answer.execution.requester == "spiffe://opsconductor/t/acme/operator/bob@corp"
    assert len(answer.execution.plan_digest) == 64
    lasting = answer.execution.end_time.ToDatetime(UTC) - server.now
    assert timedelta(minutes=59) < lasting <= timedelta(hours=1)
