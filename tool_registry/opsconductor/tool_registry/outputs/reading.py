"""Turns what a program wrote into the structured output of a step, beside the raw bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from opsconductor.tool_registry.outputs.parsers import (
    MAX_INPUT,
    MAX_JSON,
    PARSERS,
    content,
    parse_kv,
)
from opsconductor.tool_registry.outputs.parsers import OutputUnparsable as OutputUnparsable
from opsconductor.tool_registry.outputs.success import criteria
from opsconductor.tool_registry.value_schema import check_object

if TYPE_CHECKING:
    from opsconductor.tool_registry.model import Tool

Parsed = Literal["command", "dry_run", "capture"]
"""Sections whose output is read."""


def parse_output(
    tool: Tool,
    stdout: bytes,
    stderr: bytes,
    exit_code: int | None,
    *,
    section: Parsed = "command",
) -> dict[str, Any]:
    """Returns the structured output of a finished program; bytes that are not UTF-8 are replaced.

    Raises:
        OutputUnparsable: The program ended well, but its output is not what the definition says. A
            failed program's output is returned as far as it can be read.
    """
    spec = output_spec(tool, section)
    expected = criteria(tool, "dry_run" if section == "dry_run" else "command").exit_codes
    succeeded = exit_code is not None and exit_code in expected
    try:
        value = _parse(spec, stdout, stderr)
        if succeeded or section == "capture":
            _check(value, spec.get("schema", {}))
    except OutputUnparsable:
        if succeeded or section == "capture":
            raise
        return PARSERS["text"](stdout.decode("utf-8", "replace"), {})
    return value


def check_output(tool: Tool, output: Any, *, section: Parsed = "command") -> dict[str, Any]:
    """Returns output an executor made itself (database, inventory) when it fits the tool's schema.

    Raises:
        OutputUnparsable: It does not.
    """
    if not isinstance(output, Mapping):
        raise OutputUnparsable(f"expected an object, got {type(output).__name__}")
    value = dict(output)
    _check(value, output_spec(tool, section).get("schema", {}))
    return value


def output_spec(tool: Tool, section: Parsed) -> Mapping[str, Any]:
    """Returns how the output of a section is read."""
    match section:
        case "capture":
            return tool.capture.output if tool.capture else {"parser": "none"}
        case "dry_run":
            return tool.dry_run.output if tool.dry_run else {"parser": "text"}
        case _:
            return tool.output


def _parse(spec: Mapping[str, Any], stdout: bytes, stderr: bytes) -> dict[str, Any]:
    if spec["parser"] == "content":
        notes = parse_kv(stderr.decode("utf-8", "replace"), spec)
        return {**content(stdout, spec.get("field", "content")), **notes}
    text = stdout[:MAX_INPUT].decode("utf-8", "replace")
    value = PARSERS[spec["parser"]](text, spec)
    if len(json.dumps(value, ensure_ascii=False, default=str)) > MAX_JSON:
        raise OutputUnparsable(f"more than {MAX_JSON} bytes as data")
    return value


def _check(value: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    if not schema:
        return
    fault = next(iter(check_object(value, _opened(schema), "output")), None)
    if fault is not None:
        raise OutputUnparsable(str(fault))


def _opened(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a schema that allows fields it does not name: new versions of programs tell more."""
    opened = {"additionalProperties": True, **schema}
    properties = schema.get("properties")
    if properties:
        opened["properties"] = {name: _opened(each) for name, each in properties.items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            opened[key] = _opened(schema[key])
    return opened
