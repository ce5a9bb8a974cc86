"""Turns answers of the server into plain data with the words people see."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor


_EXACT = 2**53
"""Up to here floats hold integers exactly."""


def plain(message: Message) -> Any:
    """Returns a message as JSON types.

    Enum values become lower-case words without their prefix, timestamps RFC 3339 text (None when
    unset), durations seconds, bytes text (base64 when they are not UTF-8).
    """
    match message:
        case Timestamp():
            return message.ToJsonString()
        case Duration():
            return message.ToTimedelta().total_seconds()
        case Struct() | Value() | ListValue():
            return whole(MessageToDict(message))
        case _:
            return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def word(enum: EnumDescriptor, number: int) -> str:
    """Returns the word people know an enum value by; "" when it is not set."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    if number == 0:
        return ""
    first: str = enum.values_by_number[0].name
    name: str = value.name
    return name.removeprefix(first.removesuffix("UNSPECIFIED")).lower()


def whole(value: Any) -> Any:
    """Returns JSON with whole numbers as integers: protobuf's Struct knows only floats."""
    match value:
        case dict():
            return {key: whole(item) for key, item in value.items()}
        case list():
            return [whole(item) for item in value]
        case float() if value.is_integer() and abs(value) <= _EXACT:
            return int(value)
        case _:
            return value


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type and field.message_type.GetOptions().map_entry:
        return {key: _value(field, value[key]) for key in sorted(value)}
    if not isinstance(value, Message) and hasattr(value, "append"):
        return [_value(field, item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(field, value)


def _value(field: Any, value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, bytes):
        return _text(value)
    if field.enum_type is not None:
        return word(field.enum_type, value)
    return value


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()
