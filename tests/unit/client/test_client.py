# ruff: noqa: N802 - servicer methods are named by the contract
"""The asynchronous client against a real server that comes and goes."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.secure_server import SecureServer
from opsconductor.client import Client, Context
from opsconductor.client.persistence import Persistence
from opsconductor.orchestrator.pki import CertificateAuthority
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import DigestMismatch, InvalidArgument, NotFound
from opsconductor.rpc.sshsig import AllowedSigners, generate_key, verify
from opsconductor.rpc.statements import NAMESPACE, ResolutionStatement, parse_statement
from opsconductor.rpc.transport import CallTimedOut, Unreachable
from opsconductor.v1 import approval_service_pb2 as approvals
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1.approval_service_pb2_grpc import (
    ApprovalServiceServicer,
    add_ApprovalServiceServicer_to_server,
)
from opsconductor.v1.execution_service_pb2_grpc import (
    ExecutionServiceServicer,
    add_ExecutionServiceServicer_to_server,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LAST = 12
OUTPUT = b"0123456789" * 50
BODY = canonical.dumps({"v": 1, "step_id": "a"})
MANIFEST = canonical.dumps(
    {
        "tenant": "default",
        "steps": [{"id": "a", "digest": canonical.digest(canonical.STEP_DOMAIN, BODY)}],
        "rollback": [],
    }
)


class Executions(ExecutionServiceServicer):
    """Answers watches up to a point, then hangs, as a server that is about to be killed."""

    def __init__(self, stops_after: int) -> None:
        self.stops_after = stops_after
        self.stopped = asyncio.Event()
        self.resolved = executions.ResolveUnknownRequest()

    async def Get(self, request: executions.GetRequest, context: Any) -> executions.GetResponse:
        if request.execution_id == "slow":
            await asyncio.Event().wait()
        if request.execution_id != "exec_1":
            raise NotFound(f"no execution {request.execution_id}")
        attempt = executions.Attempt(attempt_id="att_1", state=executions.ATTEMPT_STATE_UNKNOWN)
        step = executions.StepStatus(step_id="a", attempts=[attempt])
        return executions.GetResponse(
            execution=executions.Execution(execution_id="exec_1", steps=[step])
        )

    async def Watch(
        self, request: executions.WatchRequest, context: Any
    ) -> AsyncIterator[executions.WatchResponse]:
        for seq in range(request.from_seq, LAST + 1):
            if seq > self.stops_after:
                self.stopped.set()
                await asyncio.Event().wait()
            yield executions.WatchResponse(seq=seq)

    async def ReadOutput(
        self, request: executions.ReadOutputRequest, context: Any
    ) -> AsyncIterator[executions.ReadOutputResponse]:
        for offset in range(request.stdout_offset, len(OUTPUT), 7):
            if offset > self.stops_after * 7:
                self.stopped.set()
                await asyncio.Event().wait()
            data = OUTPUT[offset : offset + 7]
            yield executions.ReadOutputResponse(
                stream=executions.OUTPUT_STREAM_STDOUT, offset=offset, data=data
            )

    async def ResolveUnknown(
        self, request: executions.ResolveUnknownRequest, context: Any
    ) -> executions.ResolveUnknownResponse:
        self.resolved = request
        return executions.ResolveUnknownResponse()


class Approvals(ApprovalServiceServicer):
    def __init__(self) -> None:
        self.body = BODY
        self.decided = approvals.DecideRequest()

    async def Get(
        self, request: approvals.GetApprovalRequest, context: Any
    ) -> approvals.GetApprovalResponse:
        approval = approvals.ApprovalRequest(
            approval_id="appr_1",
            execution_id="exec_1",
            plan_digest=canonical.digest(canonical.MANIFEST_DOMAIN, MANIFEST),
            step_ids=["a"],
        )
        return approvals.GetApprovalResponse(
            approval=approval, manifest=MANIFEST, step_bodies=[self.body]
        )

    async def Decide(
        self, request: approvals.DecideRequest, context: Any
    ) -> approvals.DecideResponse:
        self.decided = request
        approval = approvals.ApprovalRequest(state=approvals.APPROVAL_STATE_APPROVED)
        return approvals.DecideResponse(approval=approval)


class Orchestrator(SecureServer):
    def __init__(
        self, ca: CertificateAuthority, now: datetime, port: int = 0, stops_after: int = 1000
    ) -> None:
        super().__init__(ca, now, port)
        self.executions = Executions(stops_after)  # type: ignore[abstract]
        self.approvals = Approvals()  # type: ignore[abstract]
        add_ExecutionServiceServicer_to_server(self.executions, self.server)
        add_ApprovalServiceServicer_to_server(self.approvals, self.server)


class World:
    """One address at which servers follow each other, and a context for it."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime.now(UTC)
        self.folder = folder
        self.ca = CertificateAuthority.load_or_create(folder / "pki", now=self.now)
        self.server: Orchestrator | None = None
        self.port = 0

    async def start(self, stops_after: int = 1000) -> Orchestrator:
        self.server = Orchestrator(self.ca, self.now, self.port, stops_after)
        self.port = self.server.port
        await self.server.server.start()
        return self.server

    async def kill(self) -> None:
        if self.server is not None:
            await self.server.server.stop(None)
            self.server = None

    def context(self) -> Context:
        day = timedelta(days=1)
        certificate, key = self.ca.issue_client("operator", "alice", "acme", day, now=self.now)
        private, public = generate_key()
        (self.folder / "alice.crt").write_bytes(certificate)
        (self.folder / "alice.key").write_bytes(key)
        (self.folder / "signing_key").write_bytes(private)
        (self.folder / "allowed_signers").write_text(f"alice {public}\n")
        (self.folder / "context.yaml").write_text(
            json.dumps(
                {
                    "endpoint": f"127.0.0.1:{self.port}",
                    "ca_file": "pki/ca.crt",
                    "cert_file": "alice.crt",
                    "key_file": "alice.key",
                    "operator": "alice",
                    "signing_key": "signing_key",
                }
            )
        )
        return Context.load(self.folder / "context.yaml")

    def check(self, statement: bytes, signature: str) -> None:
        verify(
            statement,
            signature,
            namespace=NAMESPACE,
            signers=AllowedSigners.load(self.folder / "allowed_signers"),
            principal="alice",
            at=datetime.now(UTC),
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.kill()


async def test_a_watch_sees_every_event_once_though_the_server_is_killed_twice(
    world: World,
) -> None:
    first = await world.start(stops_after=4)
    seen = []

    async def watch() -> None:
        async with Client(world.context()) as client:
            async for event in client.watch("exec_1"):
                seen.append(event.seq)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        await first.executions.stopped.wait()
        await world.kill()
        second = await world.start(stops_after=9)
        await second.executions.stopped.wait()
        await world.kill()
        await world.start()
    assert seen == list(range(1, LAST + 1))


async def test_output_arrives_whole_though_the_server_is_killed(world: World) -> None:
    server = await world.start(stops_after=20)
    received = bytearray()

    async def read() -> None:
        async with Client(world.context()) as client:
            async for piece in client.read_output("exec_1", follow=True):
                received.extend(piece.data)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        await server.executions.stopped.wait()
        await world.kill()
        await world.start()
    assert bytes(received) == OUTPUT


async def test_waiting_ends_with_the_execution_as_it_ended(world: World) -> None:
    await world.start()
    async with Client(world.context()) as client:
        assert (await client.wait("exec_1")).execution_id == "exec_1"


async def test_a_consumer_that_stops_early_leaves_nothing_running(world: World) -> None:
    await world.start()
    async with Client(world.context()) as client:
        async for event in client.watch("exec_1", 3):
            assert event.seq == 3
            break


async def test_refusals_arrive_as_classes(world: World) -> None:
    await world.start()
    async with Client(world.context()) as client:
        with pytest.raises(NotFound, match="no execution exec_9"):
            await client.get("exec_9")


async def test_nothing_at_the_address_is_told_at_once(world: World) -> None:
    await world.start()
    context = world.context()
    await world.kill()
    async with Client(context) as client:
        with pytest.raises(Unreachable, match=f"127.0.0.1:{world.port}"):
            await client.get("exec_1")


async def test_a_server_that_stays_away_is_given_up(world: World) -> None:
    await world.start()
    persistence = Persistence(limit=timedelta(seconds=0.5))
    async with Client(world.context(), persistence=persistence) as client:
        await client.get("exec_1")
        await world.kill()
        with pytest.raises(Unreachable):
            await client.get("exec_1")


async def test_a_call_that_takes_too_long_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.start()
    async with Client(world.context()) as client:
        stub: Any = client._executions.Get
        request = executions.GetRequest(execution_id="slow")
        with pytest.raises(CallTimedOut):
            await client._connection.call(stub, request, timeout=timedelta(seconds=0.2))


async def test_approving_signs_what_was_checked_and_the_signature_verifies(world: World) -> None:
    server = await world.start()
    context = world.context()
    async with Client(context) as client:
        answer = await client.approve("appr_1", context.signer(), reason="fine")
    assert answer.state == approvals.APPROVAL_STATE_APPROVED
    decided = server.approvals.decided
    assert (decided.kind, decided.reason) == (approvals.DECISION_KIND_APPROVE, "fine")
    world.check(decided.statement, decided.signature)


async def test_nothing_is_signed_when_the_server_shows_another_step(world: World) -> None:
    server = await world.start()
    server.approvals.body = canonical.dumps({"v": 1, "step_id": "a", "tool": "harmless"})
    context = world.context()
    async with Client(context) as client:
        with pytest.raises(DigestMismatch):
            await client.approve("appr_1", context.signer())
    assert server.approvals.decided == approvals.DecideRequest()


async def test_a_retry_of_an_unknown_step_is_signed_in_the_callers_tenant(world: World) -> None:
    server = await world.start()
    context = world.context()
    async with Client(context) as client:
        await client.resolve_unknown("exec_1", "a", "retry", "looked", signer=context.signer())
    resolved = server.executions.resolved
    world.check(resolved.statement, resolved.signature)
    statement = parse_statement(resolved.statement)
    assert isinstance(statement, ResolutionStatement)
    assert (statement.tenant, statement.attempt_id) == ("acme", "att_1")


async def test_saying_what_happened_needs_no_signature(world: World) -> None:
    server = await world.start()
    context = world.context()
    async with Client(context) as client:
        await client.resolve_unknown("exec_1", "a", "completed", "saw it", signer=context.signer())
    assert server.executions.resolved.signature == ""


async def test_a_client_needs_a_way_to_the_server() -> None:
    with pytest.raises(InvalidArgument, match="context or a channel"):
        Client()
