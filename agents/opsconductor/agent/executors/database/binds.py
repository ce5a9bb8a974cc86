"""Values on their way into a statement: places numbered, texts made what the column wants."""

from __future__ import annotations

import datetime
import decimal
import json
import re
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.base import Outcome, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Whatever may hold a question mark that is no place for a value; strings with backslash escapes
# (E'…') end elsewhere than plain ones. A part that is read wrongly only gives a wrong number of
# places, which the server refuses: values never stand in the text.
_SCAN = re.compile(
    r"(?<![A-Za-z0-9_$])[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|"
    r"--[^\n]*|/\*.*?\*/|(\$[A-Za-z_]*\$).*?\1|\?\?|\?",
    re.DOTALL,
)


def numbered(statement: str) -> str:
    """Returns a statement with ``$1, $2…`` for each ``?`` outside quotes and comments."""
    count = 0

    def place(found: re.Match[str]) -> str:
        nonlocal count
        if found[0] == "??":
            return "?"
        if found[0] != "?":
            return found[0]
        count += 1
        return f"${count}"

    return _SCAN.sub(place, statement)


def postgres_value(value: Any, kind: str, place: int) -> Any:
    """Returns a value as the driver wants it for a type of PostgreSQL; raises Refused."""
    if value is None:
        return None
    try:
        if kind.endswith("[]"):
            return [postgres_value(item, kind[:-2], place) for item in value]
        convert = _CONVERT.get(kind)
        return convert(value) if convert else value
    except (ValueError, TypeError, ArithmeticError) as error:
        message = f"value {place} is no {kind}: {str(error)[:200]}"
        raise Refused(Outcome.refused("BIND_INVALID", message)) from error


def _truth(value: Any) -> bool:
    words = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
    if isinstance(value, bool):
        return value
    if (text := str(value).lower()) in words:
        return words[text]
    raise ValueError(f"{text!r} is neither true nor false")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def _moment(value: Any) -> datetime.datetime:
    return datetime.datetime.fromisoformat(value)


def _zoned(value: Any) -> datetime.datetime:
    moment = _moment(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _interval(value: Any) -> datetime.timedelta:
    return datetime.timedelta(seconds=float(value))


_CONVERT: Mapping[str, Callable[[Any], Any]] = {
    "int2": int,
    "int4": int,
    "int8": int,
    "oid": int,
    "float4": float,
    "float8": float,
    "numeric": lambda value: decimal.Decimal(str(value)),
    "bool": _truth,
    "text": _text,
    "varchar": _text,
    "bpchar": _text,
    "name": _text,
    "json": _text,
    "jsonb": _text,
    "date": lambda value: datetime.date.fromisoformat(value),
    "timestamp": _moment,
    "timestamptz": _zoned,
    "time": lambda value: datetime.time.fromisoformat(value),
    "interval": _interval,
    "bytea": lambda value: value.encode(),
}
