"""ToolService. See tool_service.proto."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.risk import step_risk
from opsconductor.orchestrator.domain.plans.targets import resolve_target
from opsconductor.orchestrator.servicers import wire
from opsconductor.rpc.errors import InvalidArgument, PlanInvalid
from opsconductor.rpc.identity import identity_of
from opsconductor.tool_registry import export
from opsconductor.tool_registry.inputs import check_inputs
from opsconductor.tool_registry.outputs.schema import output_schema
from opsconductor.tool_registry.rendering import render
from opsconductor.tool_registry.risk.assess import assess
from opsconductor.tool_registry.risk.dry_runs import assess_dry_run
from opsconductor.v1 import plan_service_pb2 as plan_pb
from opsconductor.v1 import tool_service_pb2 as pb
from opsconductor.v1 import tool_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opsconductor.orchestrator.engine.planning import Planner
    from opsconductor.orchestrator.servicers.call import Context
    from opsconductor.rpc.errors import Fault
    from opsconductor.tool_registry.model import Tool
    from opsconductor.tool_registry.risk.assess import CallRisk


class ToolServicer(pb_grpc.ToolServiceServicer):
    """Shows the tool registry."""

    def __init__(self, planner: Planner, broken: Callable[[], Sequence[Fault]] = tuple) -> None:
        """Takes where to ask for the mistakes of tool files that could not be taken."""
        self._planner = planner
        self._broken = broken

    async def List(  # noqa: N802
        self, request: pb.ListToolsRequest, context: Context
    ) -> pb.ListToolsResponse:
        """See tool_service.proto."""
        size = wire.page_size(request.page_size, 500, 500)
        tools = [
            tool
            for tool in sorted(self._planner.registry.tools, key=lambda tool: tool.name)
            if request.category in ("", tool.category)
            and request.platform in ("", tool.platform)
            and tool.name > request.page_token
        ]
        more = tools[size - 1].name if len(tools) > size else ""
        return pb.ListToolsResponse(
            tools=[_tool(tool) for tool in tools[:size]],
            next_page_token=more,
            file_faults=wire.faults(self._broken()),
        )

    async def Get(  # noqa: N802
        self, request: pb.GetToolRequest, context: Context
    ) -> pb.GetToolResponse:
        """See tool_service.proto."""
        tool = self._planner.registry.get(request.name)
        message = _tool(tool)
        message.definition = tool.source
        message.output_schema.CopyFrom(wire.struct(output_schema(tool)))
        return pb.GetToolResponse(tool=message)

    async def Search(  # noqa: N802
        self, request: pb.SearchToolsRequest, context: Context
    ) -> pb.SearchToolsResponse:
        """See tool_service.proto."""
        size = wire.page_size(request.page_size, 20, 500)
        found = self._planner.registry.search(request.query, size)
        return pb.SearchToolsResponse(tools=[_tool(tool) for tool in found])

    async def Render(  # noqa: N802
        self, request: pb.RenderRequest, context: Context
    ) -> pb.RenderResponse:
        """See tool_service.proto."""
        tool = self._planner.registry.get(request.name)
        inputs, faults = check_inputs(tool, wire.plain(request.inputs))
        if faults:
            raise PlanInvalid(f"the inputs of {tool.name} have faults", faults=faults)
        target: Mapping[str, Any] | None = None
        if request.target:
            tenant = identity_of(context).tenant
            where = await self._planner.segments_map(tenant)
            target = resolve_target(request.target, await self._planner.assets(tenant), where)
        section: render.Section = "dry_run" if request.dry_run else "command"
        rendered = render.render(tool, inputs, target, section=section)
        dry_run = request.dry_run and assess_dry_run(tool, inputs, target)
        return pb.RenderResponse(
            command=render.command_line(rendered),
            argv=list(getattr(rendered, "argv", ())),
            risk=_risk(dry_run or assess(tool, inputs)),
        )

    async def Export(  # noqa: N802
        self, request: pb.ExportToolsRequest, context: Context
    ) -> pb.ExportToolsResponse:
        """See tool_service.proto."""
        registry = self._planner.registry
        found = [registry.get(name) for name in request.names] or registry.tools
        chosen = {tool.name: tool for tool in found if request.category in ("", tool.category)}
        tools = [chosen[name] for name in sorted(chosen)]
        document: Any
        if request.format == pb.EXPORT_FORMAT_MCP:
            document = export.mcp_tools(tools)
        elif request.format == pb.EXPORT_FORMAT_FUNCTIONS:
            document = export.functions(tools)
        else:
            raise InvalidArgument("the format of an export is MCP or FUNCTIONS")
        return pb.ExportToolsResponse(document=json.dumps(document, ensure_ascii=False))


def _tool(tool: Tool) -> pb.Tool:
    return pb.Tool(
        name=tool.name,
        version=tool.version,
        description=tool.description,
        platform=tool.platform,
        category=tool.category,
        location=tool.location,
        method=tool.method,
        requires_target=tool.requires_target,
        parameters=wire.struct(tool.parameters),
        risk=_risk(assess(tool, {})),
        digest=tool.digest,
        aliases=list(tool.aliases),
        use_cases=list(tool.use_cases),
        timeout=wire.duration(tool.timeout),
        undo=_undo(tool),
        dry_run=tool.dry_run is not None,
        probe=tool.probe.tool if tool.probe else "",
    )


def _undo(tool: Tool) -> str:
    undo = tool.undo
    return undo if isinstance(undo, str) else str(getattr(undo, "strategy", "") or "none")


def _risk(call: CallRisk) -> plan_pb.Risk:
    computed = step_risk(
        call, undo=None, undo_strategy="", irreversible=False, environment="unknown"
    )
    risk = wire.risk(computed)
    del risk.reasons[:]
    risk.reasons.extend(call.reasons)
    return risk
