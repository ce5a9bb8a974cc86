"""Checks the inputs of a call against the tool's parameters and fills defaults."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from opsconductor.rpc.errors import Fault
from opsconductor.tool_registry.formats import FORMATS
from opsconductor.tool_registry.value_schema import check_object

if TYPE_CHECKING:
    from opsconductor.tool_registry.model import Tool


def check_inputs(
    tool: Tool, inputs: Mapping[str, Any], *, late: Collection[str] = frozenset()
) -> tuple[dict[str, Any], list[Fault]]:
    """Returns the inputs with defaults filled, and every fault in them.

    Inputs named in ``late`` are given by expressions that are resolved when the step starts; their
    values are not looked at now.
    """
    if not isinstance(inputs, Mapping):
        fault = Fault(
            code="TYPE",
            field="inputs",
            found=type(inputs).__name__,
            expected="a mapping (name: value)",
        )
        return {}, [fault]
    strange = [key for key in inputs if not isinstance(key, str)]
    checked = {
        key: value for key, value in inputs.items() if isinstance(key, str) and key not in late
    }
    schema = dict(tool.parameters)
    schema["required"] = [name for name in tool.parameters.get("required", ()) if name not in late]
    faults = [
        Fault(code="TYPE", field="inputs", found=repr(key)[:80], expected="a text key")
        for key in strange
    ]
    faults += check_object(checked, schema, "inputs")
    for name in sorted(set(late) - set(tool.properties)):
        faults += [
            fault
            for fault in check_object({name: None}, {**schema, "required": []}, "inputs")
            if fault.code == "UNKNOWN_KEY"
        ]
    typed = {key: inputs[key] for key in inputs if isinstance(key, str)}
    for name, parameter in tool.properties.items():
        if name not in typed and "default" in parameter:
            typed[name] = copy.deepcopy(parameter["default"])
    return typed, faults


def is_constrained(parameter: Mapping[str, Any]) -> bool:
    """Returns whether a parameter's schema limits a value enough to bind it late into a change."""
    if "enum" in parameter or "pattern" in parameter:
        return True
    match parameter.get("type"):
        case "boolean" | "integer" | "number":
            return True
        case "string":
            form = FORMATS.get(parameter.get("format", ""))
            return form is not None and form.constrained
        case "array":
            return is_constrained(parameter.get("items", {}))
    return False
