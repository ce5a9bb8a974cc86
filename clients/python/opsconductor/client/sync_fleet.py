"""What plans are made of: tools, agents and assets, asked for without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.client import requests
from opsconductor.client.persistence import REPEATED
from opsconductor.rpc.errors import NotFound
from opsconductor.v1 import agent_admin_service_pb2 as agents
from opsconductor.v1 import inventory_service_pb2 as inventory
from opsconductor.v1 import tool_service_pb2 as tools
from opsconductor.v1.agent_admin_service_pb2_grpc import AgentAdminServiceStub
from opsconductor.v1.inventory_service_pb2_grpc import InventoryServiceStub
from opsconductor.v1.tool_service_pb2_grpc import ToolServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta

    from opsconductor.client.sync_connection import SyncConnection


class SyncFleetCalls:
    """Calls about tools, agents and assets."""

    def __init__(self, connection: SyncConnection) -> None:
        self._connection = connection
        self._tools = ToolServiceStub(connection.channel)
        self._inventory = InventoryServiceStub(connection.channel)
        self._agents = AgentAdminServiceStub(connection.channel)

    # Tools

    def list_tools(
        self, *, category: str = "", platform: str = "", page_size: int = 0, page_token: str = ""
    ) -> tools.ListToolsResponse:
        """Returns a page of tools by name."""
        request = tools.ListToolsRequest(
            category=category, platform=platform, page_size=page_size, page_token=page_token
        )
        return self._connection.call(self._tools.List, request)

    def get_tool(self, name: str) -> tools.Tool:
        """Returns a tool by name or alias; raises UnknownTool with names close to it."""
        return (self._connection.call(self._tools.Get, tools.GetToolRequest(name=name))).tool

    def search_tools(self, query: str, *, page_size: int = 0) -> tools.SearchToolsResponse:
        """Finds tools by words, best first."""
        request = tools.SearchToolsRequest(query=query, page_size=page_size)
        return self._connection.call(self._tools.Search, request)

    def render_tool(
        self, name: str, inputs: Mapping[str, Any], *, target: str = "", dry_run: bool = False
    ) -> tools.RenderResponse:
        """Returns the command a call, or its dry run, would be, and its risk; runs nothing."""
        request = tools.RenderRequest(
            name=name, inputs=requests.struct(inputs), target=target, dry_run=dry_run
        )
        return self._connection.call(self._tools.Render, request)

    def export_tools(
        self,
        export_format: tools.ExportFormat.ValueType = tools.EXPORT_FORMAT_MCP,
        *,
        category: str = "",
        names: Iterable[str] = (),
    ) -> str:
        """Returns tools as JSON text, an MCP tool list or JSON-Schema functions."""
        request = tools.ExportToolsRequest(format=export_format, category=category, names=names)
        return (self._connection.call(self._tools.Export, request)).document

    # Agents

    def list_agents(self, *, page_size: int = 0, page_token: str = "") -> agents.ListAgentsResponse:
        """Returns a page of agents by name."""
        request = agents.ListAgentsRequest(page_size=page_size, page_token=page_token)
        return self._connection.call(self._agents.List, request)

    def get_agent(self, agent_id: str) -> agents.Agent:
        """Returns an agent by id or name."""
        return (
            self._connection.call(self._agents.Get, agents.GetAgentRequest(agent_id=agent_id))
        ).agent

    def drain_agent(
        self, agent_id: str, *, undo: bool = False, request_id: str = ""
    ) -> agents.Agent:
        """Stops new work for an agent, or lets it take work again."""
        request = agents.DrainAgentRequest(
            request_id=requests.request_id(request_id), agent_id=agent_id, undo=undo
        )
        return (self._connection.call(self._agents.Drain, request)).agent

    def release_agent(self, agent_id: str, *, tool: str = "", request_id: str = "") -> agents.Agent:
        """Takes an agent, or only one tool of it, out of quarantine."""
        request = agents.ReleaseAgentRequest(
            request_id=requests.request_id(request_id), agent_id=agent_id, tool=tool
        )
        return (self._connection.call(self._agents.Release, request)).agent

    def retire_agent(
        self, agent_id: str, reason: str, *, request_id: str = ""
    ) -> agents.RetireAgentResponse:
        """Gives up on an agent that will not come back: what it was given becomes unknown.

        Args:
            agent_id: Id or name of an agent that is not connected.
            reason: Why it will not come back.
            request_id: Key for repeating the call.
        """
        request = agents.RetireAgentRequest(
            request_id=requests.request_id(request_id), agent_id=agent_id, reason=reason
        )
        # Repeated by itself it could take what was unknown for settled, and not name it again.
        return self._connection.call(self._agents.Retire, request, repeatable=False)

    def confirm_restore(
        self,
        reason: str,
        *,
        without_agents: Iterable[str] = (),
        planned: bool = False,
        request_id: str = "",
    ) -> agents.ConfirmRestoreResponse:
        """Confirms that the store was restored: agents hand over their journals, then work goes on.

        Args:
            reason: Why it was restored.
            without_agents: Agents that will not come back; they are quarantined.
            planned: Nothing has to show that the store went back.
            request_id: Key for repeating the call.
        """
        request = agents.ConfirmRestoreRequest(
            request_id=requests.request_id(request_id),
            reason=reason,
            without_agents=without_agents,
            planned=planned,
        )
        # Repeated by itself it could confirm a second time what only once was looked at.
        return self._connection.call(self._agents.ConfirmRestore, request, repeatable=False)

    def create_join_token(
        self, name: str, segment: str, *, ttl: timedelta | None = None
    ) -> agents.CreateJoinTokenResponse:
        """Makes the token file for one new agent. Never repeated by itself: each call makes one."""
        request = agents.CreateJoinTokenRequest(name=name, segment=segment)
        if ttl is not None:
            request.ttl.FromTimedelta(ttl)
        return self._connection.call(self._agents.CreateJoinToken, request, repeatable=False)

    # Assets

    def list_assets(
        self, *, page_size: int = 0, page_token: str = ""
    ) -> inventory.ListAssetsResponse:
        """Returns a page of assets by name."""
        request = inventory.ListAssetsRequest(page_size=page_size, page_token=page_token)
        return self._connection.call(self._inventory.List, request)

    def query_assets(
        self, query: inventory.QueryAssetsRequest | None = None
    ) -> inventory.QueryAssetsResponse:
        """Counts and lists assets by filter."""
        request = query or inventory.QueryAssetsRequest(limit=1000)
        return self._connection.call(self._inventory.Query, request)

    def import_assets(
        self,
        *,
        assets: Iterable[inventory.Asset] = (),
        document: bytes | str = b"",
        request_id: str = "",
    ) -> inventory.ImportAssetsResponse:
        """Creates or replaces assets, all or none, from messages or a document's text."""
        request = inventory.ImportAssetsRequest(
            request_id=requests.request_id(request_id),
            assets=assets,
            document=document.encode() if isinstance(document, str) else document,
        )
        return self._connection.call(self._inventory.Import, request)

    def delete_asset(self, name: str, *, request_id: str = "") -> None:
        """Deletes an asset; raises NotFound for an unknown one."""
        request = inventory.DeleteAssetRequest(
            request_id=requests.request_id(request_id), name=name
        )
        try:
            self._connection.call(self._inventory.Delete, request)
        except NotFound as error:
            if REPEATED not in error.metadata:
                raise
