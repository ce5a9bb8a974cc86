"""Exports for pipelines: every hint is what the risk engine says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import pytest

from opsconductor.tool_registry.export import function, functions, hints, mcp_tool, mcp_tools
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.risk import ORDER, assess

if TYPE_CHECKING:
    from opsconductor.tool_registry.model import Tool

TOOLS = Registry.load().tools


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_no_example_is_riskier_than_the_hints_say(tool: Tool) -> None:
    told = hints(tool)
    for example in tool.examples:
        risk = assess(tool, example.inputs).risk_class
        assert not told["readOnlyHint"] or risk == "read_only"
        assert told["destructiveHint"] or ORDER[risk] < ORDER["destructive"]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_both_exports_say_the_same(tool: Tool) -> None:
    mcp, called = mcp_tool(tool), function(tool)
    assert mcp["inputSchema"] == called["function"]["parameters"]
    assert {k: v for k, v in mcp["annotations"].items() if k != "title"} == called["annotations"]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_example_is_a_valid_call_of_the_exported_schema(tool: Tool) -> None:
    schema = mcp_tool(tool)["inputSchema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    for example in tool.examples:
        secrets = {name for name, item in tool.properties.items() if item.get("writeOnly")}
        call = {k: v for k, v in example.inputs.items() if k not in secrets}
        if tool.requires_target:
            call["target"] = "web-01"
        jsonschema.validate(call, schema)


def test_an_export_is_json_and_holds_every_tool() -> None:
    listed = json.loads(json.dumps(mcp_tools(TOOLS)))["tools"]
    assert [entry["name"] for entry in listed] == [tool.name for tool in TOOLS]
    assert len(functions(TOOLS)) == len(TOOLS)


def test_a_free_command_is_never_told_to_be_harmless() -> None:
    told = hints(Registry.load().get("run_command"))
    assert told["destructiveHint"]
    assert not told["readOnlyHint"]
    assert not told["idempotentHint"]
