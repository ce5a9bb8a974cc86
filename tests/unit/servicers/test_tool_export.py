"""ToolService.Export: what a pipeline reads is what the risk engine says, over the wire."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from google.protobuf import json_format

from opsconductor.orchestrator.servicers.tool_servicer import ToolServicer
from opsconductor.rpc.errors import InvalidArgument, UnknownTool
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.risk.assess import worst_call
from opsconductor.v1 import tool_service_pb2 as pb
from opsconductor.v1.tool_service_pb2_grpc import ToolServiceStub, add_ToolServiceServicer_to_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opsconductor.orchestrator.engine.planning import Planner
    from opsconductor.orchestrator.servicers.call import Context

REGISTRY = Registry.load()
SERVICER = ToolServicer(cast("Planner", SimpleNamespace(registry=REGISTRY)))


@pytest.fixture
async def stub() -> AsyncIterator[Any]:
    server = grpc.aio.server()
    add_ToolServiceServicer_to_server(SERVICER, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield ToolServiceStub(channel)
    await server.stop(None)


async def exported(stub: Any, name: str, **request: Any) -> Any:
    shape = pb.ExportFormat.Value(f"EXPORT_FORMAT_{name}")
    answer = await stub.Export(pb.ExportToolsRequest(format=shape, **request))
    return json.loads(answer.document)


async def test_every_hint_is_what_the_risk_engine_says(stub: Any) -> None:
    listed = (await exported(stub, "MCP"))["tools"]
    functions = await exported(stub, "FUNCTIONS")
    assert [entry["name"] for entry in listed] == sorted(tool.name for tool in REGISTRY.tools)
    assert [entry["function"]["name"] for entry in functions] == [one["name"] for one in listed]
    for entry, function in zip(listed, functions, strict=True):
        worst = worst_call(REGISTRY.get(entry["name"]))
        expected = {
            "readOnlyHint": worst.risk_class == "read_only",
            "destructiveHint": worst.risk_class == "destructive",
            "idempotentHint": worst.idempotent,
        }
        assert expected.items() <= entry["annotations"].items(), entry["name"]
        assert expected.items() <= function["annotations"].items(), entry["name"]


async def test_an_export_is_limited_by_category_and_by_names(stub: Any) -> None:
    windows = (await exported(stub, "MCP", category="windows"))["tools"]
    wanted = {tool.name for tool in REGISTRY.tools if tool.category == "windows"}
    assert {entry["name"] for entry in windows} == wanted
    named = await exported(stub, "FUNCTIONS", names=["ping", "df", "ping", "check_disk_space"])
    assert [one["function"]["name"] for one in named] == ["check_disk_space", "ping"]
    both = await exported(stub, "MCP", names=["ping"], category="windows")
    assert both == {"tools": []}


async def test_an_unknown_tool_or_format_is_refused() -> None:
    context = cast("Context", None)
    with pytest.raises(UnknownTool, match="did you mean ping"):
        await SERVICER.Export(
            pb.ExportToolsRequest(format=pb.EXPORT_FORMAT_MCP, names=["pingg"]), context
        )
    with pytest.raises(InvalidArgument, match="MCP or FUNCTIONS"):
        await SERVICER.Export(pb.ExportToolsRequest(), context)


async def test_a_tool_that_is_shown_tells_the_fields_of_its_output(stub: Any) -> None:
    shown = (await stub.Get(pb.GetToolRequest(name="list_listening_ports"))).tool
    (exporting,) = (await exported(stub, "MCP", names=["list_listening_ports"]))["tools"]
    assert json_format.MessageToDict(shown.output_schema) == exporting["outputSchema"]
    assert "local_port_num" in str(exporting["outputSchema"])
    listed = (await stub.List(pb.ListToolsRequest())).tools
    assert not any(tool.HasField("output_schema") for tool in listed)
