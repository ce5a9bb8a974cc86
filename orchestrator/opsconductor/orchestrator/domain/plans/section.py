"""A section of a plan document: reads typed fields and records what is wrong with each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.durations import (
    BadDuration,
    format_duration,
    from_ms,
    parse_duration,
)
from opsconductor.orchestrator.domain.plans.findings import Findings, did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
"""Step ids and names of groups, locks and segments."""

IDENTIFIER_WORDS = "1 to 64 letters, digits, - or _, beginning with a letter or digit"


@dataclass(frozen=True)
class Section:
    """One mapping of the document; every reader returns a usable value, right or wrong."""

    data: Mapping[str, Any]
    path: str
    step: str
    findings: Findings

    def at(self, key: str) -> str:
        """Returns the path of a field."""
        return f"{self.path}.{key}" if self.path else key

    def fault(self, code: str, key: str, **parts: str) -> None:
        """Records a fault of one field."""
        self.findings.fault(code, self.at(key), step=self.step, **parts)

    def wrong_type(self, key: str, expected: str) -> None:
        """Records that a field holds another type."""
        self.fault("TYPE", key, found=shown(self.data.get(key)), expected=expected)

    def refuse_unknown(self, known: Iterable[str], unsupported: Iterable[str] = ()) -> None:
        """Records keys nobody reads, and words that are understood but not supported yet."""
        known, unsupported = tuple(known), tuple(unsupported)
        for key in self.data:
            if key in unsupported:
                self.fault("NOT_SUPPORTED", key, found=str(key), hint=f"{key} is not supported yet")
            elif key not in known:
                hint = did_you_mean(str(key), known) if isinstance(key, str) else ""
                name = shown(key)[1:-1] if isinstance(key, str) else shown(key)
                expected = "" if hint else "one of " + ", ".join(known)
                self.fault("UNKNOWN_KEY", name, found=name, expected=expected, hint=hint)

    def text(self, key: str, default: str = "", *, limit: int = 4096) -> str:
        """Reads text."""
        value = self.data.get(key, default)
        if not isinstance(value, str):
            hint = "quote it" if isinstance(value, bool | int | float) else ""
            self.fault("TYPE", key, found=shown(value), expected="text", hint=hint)
            return default
        if len(value) > limit:
            self.fault("TOO_LONG", key, found=f"{len(value)} characters", expected=f"<= {limit}")
            return default
        if "\0" in value:
            self.fault("NUL_BYTE", key, found=shown(value), expected="text without NUL")
            return default
        return value

    def identifier(self, key: str, *, code: str = "BAD_ID", required: bool = False) -> str:
        """Reads an identifier; a malformed one is recorded and returned all the same."""
        if key not in self.data:
            if required:
                self.fault("MISSING", key, expected=IDENTIFIER_WORDS)
            return ""
        value = self.data[key]
        if isinstance(value, str) and value == "" and not required:
            return ""
        if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
            hint = "quote it" if isinstance(value, bool | int | float) else ""
            self.fault(code, key, found=shown(value), expected=IDENTIFIER_WORDS, hint=hint)
            return value[:64] if isinstance(value, str) else ""
        return value

    def choice(self, key: str, options: Sequence[str], default: str) -> str:
        """Reads one of a few words."""
        value = self.data.get(key, default)
        if value in ("", *options):
            return value or default
        hint = did_you_mean(value, options) if isinstance(value, str) else ""
        self.fault("ENUM", key, found=shown(value), expected=" | ".join(options), hint=hint)
        return default

    def boolean(self, key: str, *, default: bool) -> bool:
        """Reads true or false."""
        value = self.data.get(key, default)
        if isinstance(value, bool):
            return value
        self.wrong_type(key, "true or false")
        return default

    def integer(self, key: str, default: int, bounds: tuple[int, int], *, code: str = "") -> int:
        """Reads a whole number; one out of bounds is recorded and returned all the same."""
        value = self.data.get(key, default)
        low, high = bounds
        if isinstance(value, bool) or not isinstance(value, int):
            self.fault(
                code or "TYPE",
                key,
                found=shown(value),
                expected=f"a whole number from {low} to {high}",
            )
            return default
        if not low <= value <= high:
            self.fault(
                code or "RANGE",
                key,
                found=shown(value),
                expected=f"a whole number from {low} to {high}",
            )
        return value

    def number(self, key: str, default: float, bounds: tuple[float, float]) -> float:
        """Reads a number."""
        value = self.data.get(key, default)
        low, high = bounds
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong_type(key, f"a number from {low:g} to {high:g}")
            return default
        if not math.isfinite(value) or not low <= value <= high:
            self.fault("RANGE", key, found=shown(value), expected=f"{low:g} to {high:g}")
            return default
        return float(value)

    def duration(
        self, key: str, bounds: tuple[timedelta, timedelta], *, code: str = "DURATION"
    ) -> timedelta | None:
        """Reads a duration; None when it is absent or wrong."""
        if key not in self.data:
            return None
        value = self.data[key]
        span = f"{format_duration(bounds[0])}..{format_duration(bounds[1])}"
        expected = f"a duration {span}"
        try:
            duration = parse_duration(value)
        except BadDuration as exc:
            hint = _unit_hint(value, bounds) or str(exc)
            self.fault(code, key, found=shown(value), expected=expected, hint=hint)
            return None
        if not bounds[0] <= duration <= bounds[1]:
            self.fault(code, key, found=shown(value), expected=expected)
            return None
        return duration

    def mapping(self, key: str, expected: str = "a mapping") -> Mapping[str, Any]:
        """Reads a mapping with text keys; empty when it is absent or wrong."""
        value = self.data.get(key, {})
        if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
            return value
        self.wrong_type(key, expected)
        return {}

    def labels(self, key: str) -> Mapping[str, str]:
        """Reads a mapping of text to text."""
        values = self.mapping(key, "a mapping of text to text")
        wrong = [name for name, value in values.items() if not isinstance(value, str)]
        for name in wrong:
            self.fault(
                "TYPE", f"{key}.{name}", found=shown(values[name]), expected="text", hint="quote it"
            )
        return {name: value for name, value in values.items() if name not in wrong}

    def items(self, key: str, expected: str = "a list") -> Sequence[Any]:
        """Reads a list; empty when it is absent or wrong."""
        value = self.data.get(key, [])
        if isinstance(value, list | tuple):
            return value
        self.wrong_type(key, expected)
        return ()

    def texts(self, key: str, expected: str, *, limit: int = 256) -> tuple[str, ...]:
        """Reads a list of text."""
        found: list[str] = []
        for index, value in enumerate(self.items(key, expected)):
            if isinstance(value, str) and value and len(value) <= limit:
                found.append(value)
            else:
                self.fault("TYPE", f"{key}[{index}]", found=shown(value), expected=expected)
        return tuple(found)

    def inside(self, key: str) -> Section | None:
        """Returns the section below a field; None when the field is absent or no mapping."""
        return self.enter(key, self.data[key]) if key in self.data else None

    def enter(self, key: str, value: Any) -> Section | None:
        """Returns a value found at ``key`` as a section; None when it is no mapping."""
        if isinstance(value, Mapping):
            return Section(value, self.at(key), self.step, self.findings)
        self.fault("TYPE", key, found=shown(value), expected="a mapping")
        return None


def _unit_hint(value: object, bounds: tuple[timedelta, timedelta]) -> str:
    """Returns what to write instead of a bare number: always something that is allowed there."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    low, high = (bound.total_seconds() for bound in bounds)
    seconds = value if low <= value <= high else max(low, min(30, high))
    example = format_duration(from_ms(round(seconds * 1000)))
    return f"a bare number has no unit; write for example {example}"
