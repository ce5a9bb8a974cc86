"""Checks what a tool says about its output: a schema that can be enforced, a shape that exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.rpc.errors import Fault
from opsconductor.tool_registry.outputs import shapes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opsconductor.tool_registry.model import Tool

_TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object", "null"})


def lint_output(tool: Tool) -> Iterator[Fault]:
    """Yields what is wrong with the output sections of a tool."""
    sections = {"output": tool.output}
    if tool.capture:
        sections["capture.output"] = tool.capture.output
    for path, spec in sections.items():
        schema = spec.get("schema", {})
        if schema and schema.get("type") != "object":
            yield _fault(f"{path}.schema.type", str(schema.get("type", "nothing")), "object")
        yield from _lint_schema(schema, f"{path}.schema")
        shared = spec.get("shape")
        if shared is not None and shared not in shapes.names():
            yield _fault(f"{path}.shape", shared, ", ".join(sorted(shapes.names())))
        if "lists" in spec and spec.get("jc_parser") != "xml":
            yield _fault(f"{path}.lists", spec["parser"], "jc_parser: xml")


def _lint_schema(schema: Any, path: str) -> Iterator[Fault]:
    if not isinstance(schema, dict):
        yield _fault(path, type(schema).__name__, "a JSON Schema")
        return
    yield from _lint_type(schema.get("type", []), path)
    properties: Mapping[str, Any] = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in properties:
            yield _fault(f"{path}.required", str(name), "a name of its properties")
    for name, each in properties.items():
        yield from _lint_schema(each, f"{path}.properties.{name}")
    for key in ("items", "additionalProperties"):
        if not isinstance(schema.get(key, True), bool):
            yield from _lint_schema(schema[key], f"{path}.{key}")


def _lint_type(kind: Any, path: str) -> Iterator[Fault]:
    kinds = kind if isinstance(kind, list) else [kind]
    for name in kinds:
        if name not in _TYPES:
            yield _fault(f"{path}.type", str(name), ", ".join(sorted(_TYPES)))


def _fault(field: str, found: str, expected: str) -> Fault:
    return Fault(code="TOOL_LINT", field=field, found=found, expected=expected)
