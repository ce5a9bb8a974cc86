"""Turns what a program wrote into the structured output of a step, beside the raw bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from opsconductor.tool_registry.parsers import MAX_INPUT, MAX_JSON, PARSERS, content, parse_kv
from opsconductor.tool_registry.parsers import OutputUnparsable as OutputUnparsable
from opsconductor.tool_registry.value_schema import check_object

if TYPE_CHECKING:
    from opsconductor.tool_registry.model import Tool


def parse_output(
    tool: Tool,
    stdout: bytes,
    stderr: bytes,
    exit_code: int | None,
    *,
    section: Literal["command", "capture"] = "command",
) -> dict[str, Any]:
    """Returns the structured output of a finished program; bytes that are not UTF-8 are replaced.

    Raises:
        OutputUnparsable: The program ended well, but its output is not what the definition says. A
            failed program's output is returned as far as it can be read.
    """
    if section == "capture":
        spec: Mapping[str, Any] = tool.capture.output if tool.capture else {"parser": "none"}
    else:
        spec = tool.output
    succeeded = exit_code is not None and exit_code in tool.success.exit_codes
    try:
        value = _parse(spec, stdout, stderr)
        if succeeded or section == "capture":
            _check(value, spec.get("schema", {}))
    except OutputUnparsable:
        if succeeded or section == "capture":
            raise
        return PARSERS["text"](stdout.decode("utf-8", "replace"), {})
    return value


def check_output(
    tool: Tool, output: Any, *, section: Literal["command", "capture"] = "command"
) -> dict[str, Any]:
    """Returns output an executor made itself (database, inventory) when it fits the tool's schema.

    Raises:
        OutputUnparsable: It does not.
    """
    if not isinstance(output, Mapping):
        raise OutputUnparsable(f"expected an object, got {type(output).__name__}")
    value = dict(output)
    captured = tool.capture.output if tool.capture else {}
    spec = captured if section == "capture" else tool.output
    _check(value, spec.get("schema", {}))
    return value


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
    open_schema = {"additionalProperties": True, **schema}
    fault = next(iter(check_object(value, open_schema, "output")), None)
    if fault is not None:
        raise OutputUnparsable(str(fault))
