"""Tools as other programs choose them: MCP tool lists and JSON-Schema functions.

The hints are not claims of their own: they are what the risk engine would say of the worst call
(https://modelcontextprotocol.io, ToolAnnotations).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.tool_registry.formats import FORMATS
from opsconductor.tool_registry.lint.tool import RESERVED
from opsconductor.tool_registry.outputs.schema import output_schema
from opsconductor.tool_registry.risk.assess import ORDER, CallRisk, worst_call

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opsconductor.tool_registry.model import Tool

_KEPT = (
    "type",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "required",
)


def mcp_tool(tool: Tool) -> dict[str, Any]:
    """Returns a tool as an entry of an MCP ``tools/list`` answer."""
    entry: dict[str, Any] = {
        "name": tool.name,
        "title": tool.title,
        "description": _description(tool),
        "inputSchema": input_schema(tool),
        "outputSchema": output_schema(tool),
        "annotations": {"title": tool.title, **hints(tool)},
    }
    return entry


def mcp_tools(tools: Iterable[Tool]) -> dict[str, Any]:
    """Returns a whole MCP ``tools/list`` result."""
    return {"tools": [mcp_tool(tool) for tool in tools]}


def function(tool: Tool) -> dict[str, Any]:
    """Returns a tool as a JSON-Schema function, the shape chat models call functions by."""
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": _description(tool),
            "parameters": input_schema(tool),
        },
        "annotations": hints(tool),
    }


def functions(tools: Iterable[Tool]) -> list[dict[str, Any]]:
    """Returns many tools as JSON-Schema functions."""
    return [function(tool) for tool in tools]


def hints(tool: Tool) -> dict[str, bool]:
    """Returns readOnlyHint, destructiveHint, idempotentHint and openWorldHint of the worst call."""
    worst: CallRisk = worst_call(tool)
    return {
        "readOnlyHint": worst.risk_class == "read_only",
        "destructiveHint": ORDER[worst.risk_class] == ORDER["destructive"],
        "idempotentHint": worst.idempotent,
        "openWorldHint": tool.annotations.open_world,
    }


def input_schema(tool: Tool) -> dict[str, Any]:
    """Returns the arguments of a call, secrets left out and the target added where there is one."""
    properties = {
        name: _plain(schema)
        for name, schema in tool.properties.items()
        if not schema.get("writeOnly")
    }
    required = [name for name in tool.parameters.get("required", ()) if name in properties]
    if tool.target_type != "none":
        properties[RESERVED] = {
            "type": "string",
            "description": "name of the asset, or address, the tool is used on",
        }
        required += [RESERVED] if tool.requires_target else []
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a parameter in words every JSON Schema reader knows; our formats become text."""
    plain = {key: schema[key] for key in _KEPT if key in schema}
    description = schema.get("description", "")
    if form := FORMATS.get(schema.get("format", "")):
        description = f"{description} ({form.expected})".strip()
    if pattern := schema.get("pattern"):
        plain["pattern"] = f"^(?:{pattern})$"
    if description:
        plain["description"] = description
    if "items" in schema:
        plain["items"] = _plain(schema["items"])
    if "properties" in schema:
        plain["properties"] = {key: _plain(item) for key, item in schema["properties"].items()}
    if "additionalProperties" in schema:
        more = schema["additionalProperties"]
        plain["additionalProperties"] = more if isinstance(more, bool) else _plain(more)
    return plain


def _description(tool: Tool) -> str:
    parts = [tool.description]
    if tool.use_cases:
        parts.append("Use it for: " + "; ".join(tool.use_cases) + ".")
    if tool.not_for:
        parts.append("Not for: " + "; ".join(tool.not_for) + ".")
    return " ".join(parts)
