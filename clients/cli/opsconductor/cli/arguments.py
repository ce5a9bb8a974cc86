"""Reads ``key=value`` words of the command line as inputs of a tool."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

from opsconductor.rpc.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TARGETS = ("target", "target_host", "targets")
_EXAMPLES = {
    "array": 'a JSON array such as ["a","b"]',
    "object": 'a JSON object such as {"key":"value"}',
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "string": "text",
}


def parse_inputs(
    schema: Mapping[str, Any], words: Sequence[str]
) -> tuple[dict[str, Any], list[Fault]]:
    """Returns the inputs and every mistake at once.

    Values are read by the parameter's type: text stays as it is, numbers and booleans are read,
    arrays and objects are JSON.

    Args:
        schema: The tool's parameters, a JSON Schema object.
        words: Words of the form ``key=value``.
    """
    properties: Mapping[str, Any] = schema.get("properties", {})
    inputs: dict[str, Any] = {}
    faults: list[Fault] = []
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip()
        if not equals:
            faults.append(
                Fault(
                    "ARGUMENT", "inputs", found=word, expected="key=value", hint=_keys(properties)
                )
            )
        elif key not in properties:
            faults.append(_unknown(key, properties))
        elif key in inputs:
            faults.append(Fault("DUPLICATE_KEY", f"inputs.{key}", found=word, expected="one value"))
        else:
            _read_into(inputs, faults, key, text, properties[key])
    return inputs, faults


def _read_into(
    inputs: dict[str, Any], faults: list[Fault], key: str, text: str, schema: Mapping[str, Any]
) -> None:
    types = _types(schema)
    try:
        inputs[key] = read_value(text, types)
    except ValueError:
        expected = " or ".join(_EXAMPLES.get(name, name) for name in types)
        faults.append(Fault("TYPE", f"inputs.{key}", found=json.dumps(text), expected=expected))


def read_value(text: str, types: Sequence[str]) -> Any:
    """Returns a value of the first of these JSON Schema types the text can be read as.

    Text is the last resort, so that ``port=80`` gives a number where both are allowed.

    Raises:
        ValueError: The text is none of them.
    """
    for name in sorted(types, key=lambda name: name == "string"):
        if name == "string":
            return text
        try:
            value = json.loads(text, parse_constant=_refuse)
        except ValueError:
            continue
        if _matches(value, name):
            return int(value) if name == "integer" else value
    raise ValueError(text)


def _refuse(text: str) -> Any:
    raise ValueError(text)


def _matches(value: object, name: str) -> bool:
    match name:
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            return whole and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case "null":
            return value is None
        case _:
            return False


def _types(schema: Mapping[str, Any]) -> list[str]:
    """Returns the types a parameter takes; without any statement all of them."""
    declared = schema.get("type")
    if isinstance(declared, str):
        return [declared]
    if isinstance(declared, list):
        return [str(name) for name in declared]
    branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if branches:
        return list(dict.fromkeys(name for branch in branches for name in _types(branch)))
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    if values:
        return list(dict.fromkeys(_type_of(value) for value in values))
    return ["boolean", "integer", "number", "array", "object", "null", "string"]


def _type_of(value: object) -> str:
    names = ("boolean", "integer", "number", "array", "object", "null")
    return next((name for name in names if _matches(value, name)), "string")


def _unknown(key: str, properties: Mapping[str, Any]) -> Fault:
    if key in _TARGETS:
        hint = "the target is no input: give it with --target"
        return Fault("UNKNOWN_KEY", f"inputs.{key}", found=key, hint=hint)
    close = difflib.get_close_matches(key, list(properties), n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else _keys(properties)
    return Fault("UNKNOWN_KEY", f"inputs.{key}", found=key, hint=hint)


def _keys(properties: Mapping[str, Any]) -> str:
    return "takes " + ", ".join(sorted(properties)) if properties else "takes no inputs"
