"""JSON values from protobuf's, with whole numbers whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Struct, Value

_EXACT = 2.0**53


def json_value(value: Value) -> Any:
    """Returns a value as JSON readers give it.

    protobuf keeps every number as a float; those without a fraction come back as integers, because
    they mostly were (sizes, counts, ids).
    """
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return json_object(value.struct_value)
    if kind == "list_value":
        return [json_value(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) <= _EXACT else number
    return None if kind in (None, "null_value") else getattr(value, kind)


def json_object(struct: Struct) -> dict[str, Any]:
    """Returns a struct as JSON readers give it."""
    return {name: json_value(value) for name, value in struct.fields.items()}
