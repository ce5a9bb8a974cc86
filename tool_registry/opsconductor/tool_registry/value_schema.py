"""Checks values against the small part of JSON Schema that tool parameters and outputs use.

A general validator would report in its own words; this one reports faults a person can act on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from opsconductor.rpc.errors import Fault
from opsconductor.tool_registry.formats import FORMATS, mismatch
from opsconductor.tool_registry.suggestions import did_you_mean
from opsconductor.tool_registry.text_safety import escaped, harmful_character

_TYPE_NAMES = {
    bool: "true/false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}
_MISSING = "MISSING_INPUT"


def check_value(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[Fault]:
    """Yields what is wrong with a value, in the order of the value."""
    wrong_type = _check_type(value, schema, path)
    if wrong_type:
        yield wrong_type
        return
    if "enum" in schema and value not in schema["enum"]:
        yield _not_in_enum(value, schema["enum"], path)
    elif isinstance(value, str):
        yield from _check_text(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _check_number(value, schema, path)
    elif isinstance(value, list):
        yield from _check_list(value, schema, path)
    elif isinstance(value, dict):
        yield from check_object(value, schema, path)


def check_object(value: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[Fault]:
    """Yields what is wrong with the members of a mapping."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    extra = schema.get("additionalProperties", False)
    for key, item in value.items():
        where = f"{path}.{key}" if path else key
        if key in properties:
            yield from check_value(item, properties[key], where)
        elif isinstance(extra, Mapping):
            yield from check_value(item, extra, where)
        elif extra is False:
            yield _unknown_key(key, properties, where)
        else:
            yield from _check_free(item, where)
    for key in schema.get("required", ()):
        if key not in value:
            yield _missing(key, properties.get(key, {}), f"{path}.{key}" if path else key)


def _check_free(value: Any, path: str) -> Iterator[Fault]:
    """Yields what no text may hold, in a structure that is the caller's to choose."""
    if isinstance(value, str):
        yield from _check_text(value, {}, path)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if harm := harmful_character(str(key), multiline=False):
                yield Fault(code=harm[0], field=path, found=harm[1], expected="keys without it")
            yield from _check_free(item, path)
    elif isinstance(value, list):
        for item in value:
            yield from _check_free(item, path)


def describe(schema: Mapping[str, Any]) -> str:
    """Returns what a value should be, for people."""
    if "enum" in schema:
        return "one of " + ", ".join(str(item) for item in schema["enum"])
    if schema.get("type") == "string" and "format" in schema:
        return FORMATS[schema["format"]].expected
    return {
        "string": "text",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "array": "a list",
        "object": "a mapping",
    }.get(_first_type(schema), "a value")


def _check_type(value: Any, schema: Mapping[str, Any], path: str) -> Fault | None:
    wanted = schema.get("type")
    if wanted is None:
        return None
    if any(_is_type(value, kind) for kind in (wanted if isinstance(wanted, list) else [wanted])):
        return None
    shown = f"{_TYPE_NAMES.get(type(value), type(value).__name__)}"
    if isinstance(value, str | int | float | bool):
        shown += f" {escaped(_as_written(value), 60)}"
    number = wanted == "integer" and isinstance(value, float)
    hint = ""
    if wanted == "string" and isinstance(value, bool | int | float):
        hint = f'quote it: "{_as_written(value)}"'
    elif wanted == "array" and isinstance(value, str):
        hint = "a list is written [a, b]"
    return Fault(
        code="NUMBER" if number else "TYPE",
        field=path,
        found=shown,
        expected=describe(schema),
        hint=hint,
    )


def _first_type(schema: Mapping[str, Any]) -> str:
    """Returns the type a value has unless it is null."""
    kind = schema.get("type", "")
    return str(kind[0]) if isinstance(kind, list) else str(kind)


def _is_type(value: Any, wanted: str) -> bool:
    if wanted in ("integer", "number") and isinstance(value, bool):
        return False
    types: Mapping[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "array": list,
        "object": dict,
        "null": type(None),
    }
    return isinstance(value, types[wanted])


def _as_written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_text(value: str, schema: Mapping[str, Any], path: str) -> Iterator[Fault]:
    form = FORMATS.get(schema.get("format", ""))
    if form is not None:
        if wrong := mismatch(form.name, value):
            yield Fault(code=wrong.code, field=path, found=wrong.found, expected=wrong.expected)
            return
    elif harm := harmful_character(value, multiline=True):
        yield Fault(code=harm[0], field=path, found=harm[1], expected="text without it")
        return
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        yield Fault(
            code="FORMAT",
            field=path,
            found=escaped(value),
            expected=f"text like {schema['pattern']}",
        )
    sizes = [(len(value), "minLength", "maxLength", "characters")]
    if "maxBytes" in schema:
        sizes.append((len(value.encode("utf-8")), "", "maxBytes", "bytes"))
    for size, least, most, unit in sizes:
        yield from _check_size(size, schema, (least, most), unit, path)


def _check_number(value: float, schema: Mapping[str, Any], path: str) -> Iterator[Fault]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = " to ".join(str(bound) for bound in (low, high) if bound is not None)
        yield Fault(code="RANGE", field=path, found=str(value), expected=bounds)


def _check_list(value: list[Any], schema: Mapping[str, Any], path: str) -> Iterator[Fault]:
    yield from _check_size(len(value), schema, ("minItems", "maxItems"), "items", path)
    for position, item in enumerate(value):
        yield from check_value(item, schema.get("items", {}), f"{path}[{position}]")


def _check_size(
    size: int, schema: Mapping[str, Any], names: tuple[str, str], unit: str, path: str
) -> Iterator[Fault]:
    low, high = schema.get(names[0], 0), schema.get(names[1])
    if size < low:
        yield Fault(
            code="LENGTH", field=path, found=f"{size} {unit}", expected=f"at least {low} {unit}"
        )
    elif high is not None and size > high:
        yield Fault(
            code="LENGTH", field=path, found=f"{size} {unit}", expected=f"at most {high} {unit}"
        )


def _not_in_enum(value: Any, allowed: list[Any], path: str) -> Fault:
    return Fault(
        code="ENUM",
        field=path,
        found=escaped(str(value)),
        expected="one of " + ", ".join(str(item) for item in allowed),
        hint=did_you_mean(str(value), [str(item) for item in allowed]),
    )


def _unknown_key(key: str, properties: Mapping[str, Any], path: str) -> Fault:
    known = ", ".join(properties) or "no inputs"
    return Fault(
        code="UNKNOWN_KEY",
        field=path,
        found=escaped(key),
        expected=known,
        hint=did_you_mean(key, list(properties)),
    )


def _missing(key: str, schema: Mapping[str, Any], path: str) -> Fault:
    return Fault(code=_MISSING, field=path, found="nothing", expected=describe(schema))
