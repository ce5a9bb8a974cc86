"""Names the fields of a tool's structured output from its JSON Schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Row = tuple[str, str, str]
"""Path of a field, its type, and what it means."""
_OTHERS = "*"


def rows(schema: Mapping[str, Any], order: Sequence[str] = ()) -> list[Row]:
    """Returns the fields, outer ones first; members of lists stand under ``name[].member``.

    Args:
        schema: Schema of the output.
        order: Names in the order they are to be shown; others follow by the alphabet.
    """
    place = {name: number for number, name in reversed(list(enumerate(order)))}
    return list(_members(schema, "", place))


def type_of(schema: Mapping[str, Any]) -> str:
    """Returns the type of a value in words, its choices where there are some."""
    if isinstance(values := schema.get("enum"), list):
        return " | ".join(str(value) for value in values)
    kind = schema.get("type", "any")
    words = " | ".join(str(name) for name in kind) if isinstance(kind, list) else str(kind)
    items = schema.get("items")
    if kind == "array" and isinstance(items, dict) and "type" in items:
        return f"list of {type_of(items)}"
    return words


def _members(schema: Mapping[str, Any], path: str, place: Mapping[str, int]) -> Iterator[Row]:
    properties = dict(schema.get("properties") or {})
    if isinstance(others := schema.get("additionalProperties"), dict):
        properties[_OTHERS] = others
    names = sorted(properties, key=lambda name: (place.get(name, len(place)), name))
    for name in names:
        each = properties[name]
        where = f"{path}.{name}" if path else name
        yield where, type_of(each), str(each.get("description", ""))
        yield from _members(each, where, place)
        if isinstance(items := each.get("items"), dict):
            yield from _members(items, f"{where}[]", place)
