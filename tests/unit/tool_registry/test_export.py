"""Exports for pipelines: every hint is what the risk engine says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema

from opsconductor.tool_registry.export import function, functions, hints, mcp_tool, mcp_tools
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.risk.assess import ORDER, assess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opsconductor.tool_registry.model import Example, Tool

TOOLS = Registry.load().tools


def calls() -> Iterator[tuple[Tool, Example]]:
    """Returns every example of every shipped tool."""
    return ((tool, example) for tool in TOOLS for example in tool.examples)


def test_no_example_is_riskier_than_the_hints_say() -> None:
    for tool, example in calls():
        told, risk = hints(tool), assess(tool, example.inputs).risk_class
        assert not told["readOnlyHint"] or risk == "read_only", tool.name
        assert told["destructiveHint"] or ORDER[risk] < ORDER["destructive"], tool.name


def test_both_exports_say_the_same() -> None:
    for tool in TOOLS:
        mcp, called = mcp_tool(tool), function(tool)
        assert mcp["inputSchema"] == called["function"]["parameters"]
        told = {key: value for key, value in mcp["annotations"].items() if key != "title"}
        assert told == called["annotations"]


def test_every_example_is_a_valid_call_of_the_exported_schema() -> None:
    for tool, example in calls():
        schema = mcp_tool(tool)["inputSchema"]
        jsonschema.Draft202012Validator.check_schema(schema)
        secrets = {name for name, item in tool.properties.items() if item.get("writeOnly")}
        call = {key: value for key, value in example.inputs.items() if key not in secrets}
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
