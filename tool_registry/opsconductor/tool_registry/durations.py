"""Durations as people type them: ``90s``, ``2m``, ``1h30m``, ``250ms``."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}
_DURATION = re.compile(r"(?:([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|d|h|m|s))+")
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|d|h|m|s)")


def parse_duration(text: object) -> timedelta:
    """Returns the duration; raises ValueError saying what a duration looks like."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        example = f"{text}s" if text > 0 and _DURATION.fullmatch(f"{text}s") else "90s"
        raise ValueError(f"a bare number has no unit; write for example {example}")
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError("expected a duration such as 90s, 2m or 1h30m")
    return sum(
        (timedelta(**{_UNITS[unit]: float(number)}) for number, unit in _PART.findall(text)),
        timedelta(),
    )
