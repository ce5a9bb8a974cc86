"""Shapes of outputs that several tools share, in a short notation of their own.

``shapes.yaml`` has one shape a name. A text is a leaf: its type, and after a comma what it
means. A mapping is an object, a list of one shape is a list of such items::

    processes:
      - pid: integer, number of the process
        cpu_percent: number?, null where it is unknown
        groups: string[], names
        "*": string, any other field

``?`` says that a value may be null, ``[]`` that it is a list; ``any`` says nothing about the type.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

OTHERS = "*"
"""Stands for every field that has no name of its own."""


def shape(name: str) -> Mapping[str, Any] | None:
    """Returns the JSON Schema of a shared shape, None for a name there is no shape of."""
    written = _written().get(name)
    return None if written is None else expanded(written)


def names() -> tuple[str, ...]:
    """Returns the names of all shared shapes."""
    return tuple(_written())


def expanded(written: Any) -> dict[str, Any]:
    """Returns the JSON Schema of a shape in the short notation."""
    if isinstance(written, str):
        return _leaf(written)
    if isinstance(written, list):
        (item,) = written
        return {"type": "array", "items": expanded(item)}
    properties = {name: expanded(item) for name, item in written.items() if name != OTHERS}
    schema: dict[str, Any] = {"type": "object"}
    if properties:
        schema["properties"] = properties
    if OTHERS in written:
        schema["additionalProperties"] = expanded(written[OTHERS])
    return schema


def _leaf(text: str) -> dict[str, Any]:
    kind, _, meaning = text.partition(",")
    several, nullable = kind.endswith("[]"), kind.endswith("?")
    kind = kind.removesuffix("[]").removesuffix("?")
    schema: dict[str, Any] = {} if kind == "any" else {"type": kind}
    if nullable:
        schema["type"] = [kind, "null"]
    if several:
        schema = {"type": "array", "items": schema}
    if meaning.strip():
        schema["description"] = meaning.strip()
    return schema


@functools.cache
def _written() -> Mapping[str, Any]:
    import yaml  # wanted only where tools are described to people and models

    data = files("opsconductor.tool_registry.outputs").joinpath("shapes.yaml").read_bytes()
    written: Mapping[str, Any] = yaml.safe_load(data)
    return written
