"""The parts of the scripted orchestrator that answer about agents and assets."""

# ruff: noqa: N802 - methods are named as gRPC names them
from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from opsconductor.rpc.status import to_status
from opsconductor.v1 import (
    agent_admin_service_pb2 as agents,
)
from opsconductor.v1 import (
    agent_admin_service_pb2_grpc,
    inventory_service_pb2_grpc,
)
from opsconductor.v1 import inventory_service_pb2 as inventory

if TYPE_CHECKING:
    import grpc

    from helpers.scripted_orchestrator import Script
    from opsconductor.rpc.errors import OpsConductorError


def abort(context: grpc.ServicerContext, error: OpsConductorError) -> NoReturn:
    """Ends a call with an error."""
    status = to_status(error)
    context.set_trailing_metadata(status.metadata)
    context.abort(status.code, status.message)
    raise AssertionError


class Answers:
    """A service that notes its calls and answers from the script."""

    def __init__(self, script: Script) -> None:
        self.script = script

    def called(self, request: Any, context: grpc.ServicerContext) -> None:
        """Notes a call; raises the error the script has next."""
        self.script.calls.append(request)
        if self.script.error is not None:
            error, self.script.error = self.script.error, None
            abort(context, error)


class Agents(Answers, agent_admin_service_pb2_grpc.AgentAdminServiceServicer):
    def List(self, request: Any, context: grpc.ServicerContext) -> agents.ListAgentsResponse:
        self.called(request, context)
        return agents.ListAgentsResponse(agents=self.script.agents)

    def Get(self, request: Any, context: grpc.ServicerContext) -> agents.GetAgentResponse:
        self.called(request, context)
        return agents.GetAgentResponse(agent=self.script.agents[0])

    def Drain(self, request: Any, context: grpc.ServicerContext) -> agents.DrainAgentResponse:
        self.called(request, context)
        return agents.DrainAgentResponse(agent=self.script.agents[0])

    def Release(self, request: Any, context: grpc.ServicerContext) -> agents.ReleaseAgentResponse:
        self.called(request, context)
        return agents.ReleaseAgentResponse(agent=self.script.agents[0])

    def Retire(self, request: Any, context: grpc.ServicerContext) -> agents.RetireAgentResponse:
        self.called(request, context)
        step = agents.UnknownStep(execution_id="exec_1", step_id="one")
        return agents.RetireAgentResponse(agent=self.script.agents[0], unknown_steps=[step])

    def ConfirmRestore(
        self, request: Any, context: grpc.ServicerContext
    ) -> agents.ConfirmRestoreResponse:
        self.called(request, context)
        return agents.ConfirmRestoreResponse()

    def CreateJoinToken(
        self, request: Any, context: grpc.ServicerContext
    ) -> agents.CreateJoinTokenResponse:
        self.called(request, context)
        return agents.CreateJoinTokenResponse(token_file="token: secret\n")


WEB_01 = inventory.Asset(name="web-01", type="linux_server", port=22, address="10.0.0.1")


class Inventory(Answers, inventory_service_pb2_grpc.InventoryServiceServicer):
    def List(self, request: Any, context: grpc.ServicerContext) -> inventory.ListAssetsResponse:
        self.called(request, context)
        return inventory.ListAssetsResponse(assets=[WEB_01])

    def Import(self, request: Any, context: grpc.ServicerContext) -> inventory.ImportAssetsResponse:
        self.called(request, context)
        return inventory.ImportAssetsResponse(created=1, updated=2)

    def Query(self, request: Any, context: grpc.ServicerContext) -> inventory.QueryAssetsResponse:
        self.called(request, context)
        return inventory.QueryAssetsResponse(total_count=1)

    def Delete(self, request: Any, context: grpc.ServicerContext) -> inventory.DeleteAssetResponse:
        self.called(request, context)
        return inventory.DeleteAssetResponse()

    def Change(self, request: Any, context: grpc.ServicerContext) -> inventory.ChangeAssetResponse:
        self.called(request, context)
        return inventory.ChangeAssetResponse()
