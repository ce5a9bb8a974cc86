"""Reads one tool file into a Tool; every mistake in it is a fault with its line."""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from opsconductor.rpc import canonical
from opsconductor.rpc.errors import DocumentInvalid, Fault
from opsconductor.tool_registry import model
from opsconductor.tool_registry.documents import yaml_reader
from opsconductor.tool_registry.durations import parse_duration
from opsconductor.tool_registry.suggestions import did_you_mean
from opsconductor.tool_registry.text_safety import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import jsonschema
    from jsonschema.protocols import Validator

MAX_BYTES = 262_144
"""Largest tool file."""


class ToolDefinitionInvalid(DocumentInvalid):
    """Tool definitions have faults."""


def read_tool(data: bytes) -> tuple[model.Tool | None, list[Fault]]:
    """Returns the tool of a file's bytes, None with faults when the file breaks the schema."""
    definition, lines, faults = yaml_reader.load(
        data, max_bytes=MAX_BYTES, too_large="TOOL_TOO_LARGE"
    )
    if definition is None:
        return None, faults
    faults += [_placed(fault, lines) for fault in schema_faults(definition)]
    if faults:
        return None, faults
    try:
        return build_tool(definition, data), []
    except ValueError as exc:
        return None, [Fault(code="TOOL_DEFINITION", found=str(exc))]


def schema_faults(definition: Mapping[str, Any]) -> Iterable[Fault]:
    """Yields what in a definition does not follow tool.schema.json."""
    for error in _validator().iter_errors(definition):
        yield from _schema_fault(error)


def tool_schema() -> dict[str, Any]:
    """Returns the JSON Schema of tool definitions."""
    text = files("opsconductor.tool_registry").joinpath("tool.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@functools.cache
def _validator() -> Validator:
    import jsonschema  # slow to load, wanted only where tools are read

    return jsonschema.Draft202012Validator(tool_schema())


def _schema_fault(error: jsonschema.ValidationError) -> Iterable[Fault]:
    path = _path(error.absolute_path)
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(error.schema.get("properties", {})) if isinstance(error.schema, dict) else []
        for key in error.instance:
            if key not in known:
                yield Fault(
                    code="UNKNOWN_KEY",
                    field=f"{path}.{key}" if path else str(key),
                    found=escaped(str(key)),
                    expected="one of " + ", ".join(known),
                    hint=did_you_mean(str(key), known),
                )
        return
    if error.context:
        deepest = max(error.context, key=lambda part: len(part.absolute_path))
        yield from _schema_fault(deepest)
        return
    yield Fault(code="SCHEMA", field=path, found=escaped(error.message, 200))


def _path(parts: Iterable[str | int]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _placed(fault: Fault, lines: Mapping[str, int]) -> Fault:
    field = fault.field
    while field and field not in lines:
        field = (
            field[: max(field.rfind("."), field.rfind("["))] if "." in field or "[" in field else ""
        )
    return Fault(
        fault.code, fault.field, fault.found, fault.expected, fault.hint, line=lines.get(field, 1)
    )


def build_tool(raw: Mapping[str, Any], source: bytes) -> model.Tool:
    """Returns the tool of a definition that follows the schema."""
    execution = raw["execution"]
    capture = raw.get("capture")
    risk_from = raw.get("risk_from")
    probe = raw.get("probe")
    return model.Tool(
        name=raw["name"],
        version=raw["version"],
        title=raw.get("title", raw["name"].replace("_", " ")),
        description=raw["description"],
        platform=raw["platform"],
        category=raw["category"],
        aliases=tuple(raw.get("aliases", ())),
        use_cases=tuple(raw.get("use_cases", ())),
        not_for=tuple(raw.get("not_for", ())),
        keywords=tuple(raw.get("keywords", ())),
        location=execution["location"],
        method=execution["method"],
        requires_target=execution["requires_target"],
        target_type=execution["target_type"],
        elevate=execution.get("elevate", "none") == "sudo",
        elevated_cases=frozenset(_elevated_cases(execution)),
        parameters=raw["parameters"],
        annotations=_annotations(raw["annotations"]),
        risk_rules=tuple(raw.get("risk_rules", ())),
        risk_from=model.RiskFrom(**risk_from) if risk_from else None,
        command=raw["command"],
        dry_run=_dry_run(raw.get("dry_run")),
        capture=model.Capture(**capture) if capture else None,
        undo=_undo(raw),
        probe=model.Probe(probe["tool"], probe.get("inputs", {})) if probe else None,
        success=_success(raw.get("success", {})),
        retry=raw.get("retry"),
        timeout=parse_duration(raw["timeout"]),
        estimate=_estimate(raw.get("estimate")),
        output=raw["output"],
        summary=raw.get("summary", ""),
        locks=tuple(raw.get("locks", ())),
        requires_binaries=tuple(raw.get("requires", {}).get("binaries", ())),
        requires_capabilities=tuple(raw.get("requires", {}).get("capabilities", ())),
        examples=tuple(_example(example) for example in raw["examples"]),
        digest=canonical.digest(canonical.TOOL_DOMAIN, canonical.dumps(raw)),
        source=source,
    )


def _elevated_cases(execution: Mapping[str, Any]) -> Iterable[str]:
    elevate = execution.get("elevate", "none")
    return elevate if isinstance(elevate, list) else ()


def _annotations(raw: Mapping[str, bool]) -> model.Annotations:
    given = dict(raw)
    if given["read_only"]:
        given.setdefault("destructive", False)
    return model.Annotations(**given)


def _undo(raw: Mapping[str, Any]) -> model.Undo:
    given = raw.get("undo")
    if given is None:
        return model.Undo("not_needed" if raw["annotations"]["read_only"] else "none")
    return model.Undo(
        strategy=given["strategy"],
        reason=given.get("reason", ""),
        tool=given.get("tool", ""),
        inputs=given.get("inputs", {}),
        command=given.get("command"),
    )


def _dry_run(raw: Mapping[str, Any] | None) -> model.DryRun | None:
    if raw is None:
        return None
    return model.DryRun(
        command=raw["command"],
        read_only=raw.get("read_only", False),
        unprivileged=raw.get("elevate") == "none",
        output=raw.get("output", {"parser": "text"}),
        success=_success(raw.get("success", {})),
    )


def _success(raw: Mapping[str, Any]) -> model.Success:
    return model.Success(
        exit_codes=tuple(raw.get("exit_codes", (0,))),
        expression=raw.get("expression", ""),
        stdout_regex=raw.get("stdout_regex", ""),
        stderr_not_regex=raw.get("stderr_not_regex", ""),
    )


def _estimate(raw: Mapping[str, Any] | None) -> model.Estimate | None:
    if raw is None:
        return None
    per = {name: parse_duration(each) for name, each in raw.get("per", {}).items()}
    return model.Estimate(parse_duration(raw["base"]), per)


def _example(raw: Mapping[str, Any]) -> model.Example:
    return model.Example(
        name=raw["name"],
        inputs=raw["inputs"],
        target=raw.get("target"),
        captured=raw.get("captured"),
        section=raw.get("section", "command"),
        renders=raw["renders"],
        risk=raw.get("risk", ""),
    )
