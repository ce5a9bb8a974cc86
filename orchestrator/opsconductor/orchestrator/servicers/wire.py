"""Small conversions between wire values and Python ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from google.protobuf import duration_pb2, json_format, struct_pb2, timestamp_pb2

from opsconductor.rpc.errors import InvalidArgument
from opsconductor.v1 import plan_service_pb2 as plan_pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opsconductor.orchestrator.domain.plans.risk import StepRisk
    from opsconductor.rpc.errors import Fault


def timestamp(time: datetime | None) -> timestamp_pb2.Timestamp | None:
    """Returns a Timestamp; None stays None."""
    if time is None:
        return None
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(time.astimezone(UTC).replace(tzinfo=None))
    return message


def duration(span: timedelta | None) -> duration_pb2.Duration | None:
    """Returns a Duration; None stays None."""
    if span is None:
        return None
    message = duration_pb2.Duration()
    message.FromTimedelta(span)
    return message


def struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """Returns a Struct of JSON values."""
    message = struct_pb2.Struct()
    json_format.ParseDict(dict(values), message)
    return message


def value(item: Any) -> struct_pb2.Value:
    """Returns a Value of a JSON value."""
    message = struct_pb2.Value()
    json_format.ParseDict(item, message)
    return message


def plain(message: struct_pb2.Struct) -> dict[str, Any]:
    """Returns a Struct as JSON values; numbers without a fraction become integers."""
    return {key: _plain(item) for key, item in message.fields.items()}


def _plain(item: struct_pb2.Value) -> Any:
    kind = item.WhichOneof("kind")
    if kind == "number_value":
        number = item.number_value
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    if kind == "struct_value":
        return plain(item.struct_value)
    if kind == "list_value":
        return [_plain(entry) for entry in item.list_value.values]
    return None if kind in (None, "null_value") else getattr(item, kind)


def faults(items: Iterable[Fault]) -> list[plan_pb.Fault]:
    """Returns faults as messages."""
    return [
        plan_pb.Fault(
            code=item.code,
            step=item.step,
            field=item.field,
            found=item.found,
            expected=item.expected,
            hint=item.hint,
            line=item.line,
        )
        for item in items
    ]


_CLASSES = {
    "read_only": plan_pb.RISK_CLASS_READ_ONLY,
    "modify": plan_pb.RISK_CLASS_MODIFY,
    "destructive": plan_pb.RISK_CLASS_DESTRUCTIVE,
}
_LEVELS = {
    "low": plan_pb.RISK_LEVEL_LOW,
    "medium": plan_pb.RISK_LEVEL_MEDIUM,
    "high": plan_pb.RISK_LEVEL_HIGH,
    "critical": plan_pb.RISK_LEVEL_CRITICAL,
}


def risk(item: StepRisk) -> plan_pb.Risk:
    """Returns a computed risk as a message."""
    return plan_pb.Risk(
        risk_class=_CLASSES[item.risk_class],
        level=_LEVELS[item.level],
        reasons=list(item.reasons),
    )


def page_size(asked: int, default: int, most: int) -> int:
    """Returns the size of a page. Raises InvalidArgument for a negative or too large one."""
    if not 0 <= asked <= most:
        raise InvalidArgument(f"page_size is {asked}: it must be 0 to {most}")
    return asked or default
