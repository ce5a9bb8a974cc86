"""What the structured output of a tool looks like, for people, models and programs that use it.

A definition's own ``output.schema`` is enforced: the digest that a plan pins covers it. What it
leaves out is derived from its parser, from the shared shape it names and, for jc, from the shape of
that parser. Derived parts describe, they are no reason to refuse an output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.tool_registry.outputs.shapes import shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opsconductor.tool_registry.model import Tool

_CUT: Mapping[str, Any] = {"type": "boolean", "description": "true when there was more than fits"}
_TOTAL: Mapping[str, Any] = {"type": "integer", "description": "how many there were when cut"}
_HTTP_ANSWER = "http_answer"


def output_schema(tool: Tool) -> dict[str, Any]:
    """Returns the JSON Schema of a tool's structured output; its type is always an object."""
    spec = tool.output
    derived = _derived(tool, spec)
    declared: Mapping[str, Any] = spec.get("schema", {})
    schema: dict[str, Any] = {"type": "object", **derived, **declared}
    properties = {**derived.get("properties", {}), **declared.get("properties", {})}
    if properties:
        schema["properties"] = properties
    return schema


def _derived(tool: Tool, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    parser = spec["parser"]
    shared = spec.get("shape") or (f"jc_{spec['jc_parser']}" if parser == "jc" else "")
    if shared and (found := shape(shared)) is not None:
        return _placed(found, spec.get("field", "items"))
    if parser == "none" and tool.method == "http":
        return shape(_HTTP_ANSWER) or {}
    return _BY_PARSER.get(parser, _anything)(spec)


def _placed(found: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """Returns the shape of a whole output: rows stand under the field's name."""
    return _rows(field, found) if found.get("type") == "array" else found


def _rows(field: str, rows: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = {field: dict(rows), "truncated": dict(_CUT), "total_count": dict(_TOTAL)}
    return {"type": "object", "properties": properties}


def _text(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    text = {"type": "string", "description": "what the program wrote to standard output"}
    return {"type": "object", "properties": {spec.get("field", "text"): text, "truncated": _CUT}}


def _lines(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    line = {"type": "array", "items": {"type": "string"}, "description": "lines of the output"}
    return _rows(spec.get("field", "lines"), line)


def _json_lines(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return _rows(spec.get("field", "items"), {"type": "array", "items": {"type": "object"}})


def _table(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    columns = {name: {"type": "string"} for name in spec["columns"]}
    row = {"type": "object", "properties": columns}
    return _rows(spec.get("field", "rows"), {"type": "array", "items": row})


def _pattern(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    if "field" not in spec:
        return {}
    return _rows(spec["field"], {"type": "array", "items": {"type": "object"}})


def _names_and_values(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    if spec.get("schema", {}).get("properties"):
        return {}
    return {"type": "object", "additionalProperties": {"type": "string"}}


def _nothing(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "object", "description": "nothing but that it was done"}


def _anything(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "object"}


_BY_PARSER: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    "text": _text,
    "lines": _lines,
    "jsonlines": _json_lines,
    "table": _table,
    "regex": _pattern,
    "kv": _names_and_values,
    "none": _nothing,
}
