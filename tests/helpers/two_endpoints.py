# ruff: noqa: N802 - servicer methods are named by the contract
"""Two orchestrators of one deployment behind real TLS, each killed when a test says so."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from helpers.secure_server import SecureServer
from opsconductor.client import Context
from opsconductor.orchestrator.pki import CertificateAuthority
from opsconductor.rpc.errors import AlreadyDecided, NotFound
from opsconductor.v1 import agent_admin_service_pb2 as agents
from opsconductor.v1 import approval_service_pb2 as approvals
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1 import inventory_service_pb2 as inventory
from opsconductor.v1.agent_admin_service_pb2_grpc import (
    AgentAdminServiceServicer,
    add_AgentAdminServiceServicer_to_server,
)
from opsconductor.v1.approval_service_pb2_grpc import (
    ApprovalServiceServicer,
    add_ApprovalServiceServicer_to_server,
)
from opsconductor.v1.execution_service_pb2_grpc import (
    ExecutionServiceServicer,
    add_ExecutionServiceServicer_to_server,
)
from opsconductor.v1.inventory_service_pb2_grpc import (
    InventoryServiceServicer,
    add_InventoryServiceServicer_to_server,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def _events() -> list[executions.WatchResponse]:
    return [
        executions.WatchResponse(seq=seq, type=f"event-{seq}", summary="x" * seq)
        for seq in range(1, 41)
    ]


def _pieces() -> list[executions.ReadOutputResponse]:
    """Returns what two attempts write side by side, in the order in which it arrived."""
    pieces: list[executions.ReadOutputResponse] = []
    for turn in range(20):
        for attempt in ("a", "b"):
            offset = sum(len(piece.data) for piece in pieces if piece.attempt_id == attempt)
            pieces.append(
                executions.ReadOutputResponse(
                    attempt_id=attempt,
                    stream=executions.OUTPUT_STREAM_STDOUT,
                    offset=offset,
                    data=f"{attempt}{turn:02}".encode() * (turn + 1),
                )
            )
    return pieces


@dataclass
class Database:
    """What both orchestrators know."""

    events: list[executions.WatchResponse] = field(default_factory=_events)
    pieces: list[executions.ReadOutputResponse] = field(default_factory=_pieces)
    submitted: list[str] = field(default_factory=list)
    decisions: list[approvals.Decision] = field(default_factory=list)
    assets: set[str] = field(default_factory=lambda: {"web-01"})
    reads: int = 0
    calls: list[tuple[str, str]] = field(default_factory=list)
    """(endpoint, method) of every call that changes something."""


class Replica(SecureServer):
    """One orchestrator: serves until it has sent ``stops_after`` messages, then says nothing."""

    def __init__(
        self, ca: CertificateAuthority, database: Database, port: int, stops_after: int
    ) -> None:
        super().__init__(ca, datetime.now(UTC), port)
        self.database = database
        self.stops_after = stops_after
        self.silent = False
        """Whether changes are carried out but not answered."""
        self.stopped = asyncio.Event()
        add_ExecutionServiceServicer_to_server(_Executions(self), self.server)  # type: ignore[abstract]
        add_ApprovalServiceServicer_to_server(_Approvals(self), self.server)  # type: ignore[abstract]
        add_AgentAdminServiceServicer_to_server(_Agents(self), self.server)  # type: ignore[abstract]
        add_InventoryServiceServicer_to_server(_Inventory(self), self.server)  # type: ignore[abstract]

    async def hang(self) -> NoReturn:
        """Answers no more, and lets the test know."""
        self.stopped.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def changed(self, method: str) -> None:
        """Notes a change, and hangs when its answer is to be lost."""
        self.database.calls.append((self.endpoint, method))
        if self.silent:
            await self.hang()

    async def sends(self, messages: list[Any]) -> AsyncIterator[Any]:
        """Yields messages up to the point where the orchestrator is killed."""
        for sent, message in enumerate(messages):
            if sent >= self.stops_after:
                await self.hang()
            yield message


class _Part:
    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.database = replica.database


class _Executions(_Part, ExecutionServiceServicer):
    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for event in self.replica.sends(self.database.events[request.from_seq - 1 :]):
            yield event

    async def ReadOutput(self, request: Any, context: Any) -> AsyncIterator[Any]:
        # Who did not see the output arrive reads it attempt by attempt.
        ordered = sorted(self.database.pieces, key=lambda piece: piece.attempt_id)
        pieces = self.database.pieces if self.database.reads == 0 else ordered
        self.database.reads += 1
        async for piece in self.replica.sends(pieces):
            yield piece

    async def Get(self, request: Any, context: Any) -> Any:
        execution = executions.Execution(execution_id=request.execution_id)
        return executions.GetResponse(execution=execution)

    async def Submit(self, request: Any, context: Any) -> Any:
        already = request.request_id in self.database.submitted
        if not already:
            self.database.submitted.append(request.request_id)
        await self.replica.changed("Submit")
        return executions.SubmitResponse(
            execution=executions.Execution(execution_id="exec_1"), already_submitted=already
        )

    async def Resume(self, request: Any, context: Any) -> Any:
        await self.replica.changed("Resume")
        return executions.ResumeResponse()

    async def Cancel(self, request: Any, context: Any) -> Any:
        await self.replica.changed("Cancel")
        execution = executions.Execution(execution_id=request.execution_id)
        return executions.CancelResponse(execution=execution)


class _Approvals(_Part, ApprovalServiceServicer):
    async def Get(self, request: Any, context: Any) -> Any:
        found = approvals.ApprovalRequest(approval_id="appr_1")
        found.decisions.extend(self.database.decisions)
        return approvals.GetApprovalResponse(approval=found)

    async def Decide(self, request: Any, context: Any) -> Any:
        if self.database.decisions:
            raise AlreadyDecided("alice has already decided")
        self.database.decisions.append(
            approvals.Decision(
                kind=request.kind,
                reason=request.reason,
                statement=request.statement,
                signature=request.signature,
            )
        )
        await self.replica.changed("Decide")
        return approvals.DecideResponse()


class _Agents(_Part, AgentAdminServiceServicer):
    async def CreateJoinToken(self, request: Any, context: Any) -> Any:
        await self.replica.changed("CreateJoinToken")
        return agents.CreateJoinTokenResponse(token_file="x")


class _Inventory(_Part, InventoryServiceServicer):
    async def Delete(self, request: Any, context: Any) -> Any:
        if request.name not in self.database.assets:
            raise NotFound(f"there is no asset {request.name}")
        self.database.assets.remove(request.name)
        await self.replica.changed("Delete")
        return inventory.DeleteAssetResponse()


class Replicas:
    """Orchestrators of one deployment, by number; each keeps its port over its deaths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = CertificateAuthority.load_or_create(folder / "pki", now=datetime.now(UTC))
        self.database = Database()
        self.running: dict[int, Replica] = {}
        self.ports: dict[int, int] = {}

    async def start(self, number: int, stops_after: int = 10_000) -> Replica:
        """Starts an orchestrator at the port it had before."""
        replica = Replica(self.ca, self.database, self.ports.get(number, 0), stops_after)
        self.running[number], self.ports[number] = replica, replica.port
        await replica.server.start()
        return replica

    async def kill(self, number: int) -> None:
        """Ends an orchestrator in the middle of what it does."""
        await self.running.pop(number).server.stop(None)

    async def close(self) -> None:
        """Ends all."""
        for number in list(self.running):
            await self.kill(number)

    def endpoints(self) -> list[str]:
        """Returns where each was started."""
        return [f"127.0.0.1:{self.ports[number]}" for number in sorted(self.ports)]

    def context(self, *endpoints: str) -> Context:
        """Returns a context that names all orchestrators, or the given endpoints."""
        hour = timedelta(hours=1)
        certificate, key = self.ca.issue_client(
            "operator", "alice", "default", hour, now=datetime.now(UTC)
        )
        (self.folder / "alice.crt").write_bytes(certificate)
        (self.folder / "alice.key").write_bytes(key)
        fields = {
            "endpoints": list(endpoints) or self.endpoints(),
            "ca_file": "pki/ca.crt",
            "cert_file": "alice.crt",
            "key_file": "alice.key",
            "operator": "alice",
        }
        (self.folder / "context.yaml").write_text(json.dumps(fields))
        return Context.load(self.folder / "context.yaml", {})
