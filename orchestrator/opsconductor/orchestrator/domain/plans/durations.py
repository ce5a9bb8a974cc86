"""Durations in plans: read as tool definitions read them, written as people write them."""

from __future__ import annotations

from datetime import timedelta

from opsconductor.tool_registry.durations import parse_duration as read_duration

_LIMIT = timedelta(days=366)
_UNITS = (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))


class BadDuration(ValueError):
    """The value is no duration; the message says what was expected."""


def parse_duration(value: object) -> timedelta:
    """Returns the duration a document gives.

    Raises:
        BadDuration: It is not text such as ``1h30m``; a bare number is told to carry a unit.
    """
    try:
        duration = read_duration(value)
    except OverflowError:
        duration = _LIMIT * 2
    except ValueError as exc:
        raise BadDuration(str(exc)) from exc
    if duration > _LIMIT:
        raise BadDuration("a duration is at most 366 days")
    return duration


def format_duration(duration: timedelta) -> str:
    """Returns the shortest text that reads back as the duration, to the millisecond."""
    millis = to_ms(duration)
    if millis <= 0:
        return "0s"
    text = ""
    for unit, size in _UNITS:
        count, millis = divmod(millis, size)
        text += f"{count}{unit}" if count else ""
    return text


def to_ms(duration: timedelta) -> int:
    """Returns whole milliseconds, rounded to the nearest."""
    return round(duration / timedelta(milliseconds=1))


def from_ms(millis: int) -> timedelta:
    """Returns the duration of that many milliseconds."""
    return timedelta(milliseconds=millis)
