"""Canonical JSON and the digests that approvals bind to.

The producer writes sorted keys, compact separators and UTF-8 (an RFC 8785 compatible subset:
strings, booleans, null, arrays, objects, integers up to 2^53-1 and finite floats). Verifiers hash
the bytes they received and never serialise again, so they do not depend on the producer's care;
``loads`` refuses what JSON readers are known to disagree on.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

STEP_DOMAIN = "opsc/step/1"
"""Domain separation of step bodies."""
MANIFEST_DOMAIN = "opsc/plan/1"
"""Domain separation of manifests."""
INPUTS_DOMAIN = "opsc/inputs/1"
"""Domain separation of a plan's inputs."""
TOOL_DOMAIN = "opsc/tool/1"
"""Domain separation of tool definitions."""

_MAX_INTEGER = 2**53 - 1
_MAX_DEPTH = 64
_PLAIN = frozenset({str, bool, type(None)})
_CONTAINERS = frozenset({dict, list, tuple})


class CanonicalError(ValueError):
    """The value or text lies outside the JSON profile."""


def dumps(value: object) -> bytes:
    """Returns the canonical JSON bytes of a value; raises CanonicalError outside the profile."""
    _check(value)
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode("utf-8")
    except (TypeError, ValueError, UnicodeEncodeError) as exc:
        raise CanonicalError(str(exc)) from exc


def loads(data: bytes) -> Any:
    """Reads JSON strictly: no duplicate keys, no NaN, no huge integers; raises CanonicalError."""
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise CanonicalError(f"not strict JSON: {exc}") from exc
    _check(value)
    if "\\u" in text:  # only an escape can spell a lone surrogate
        _check_text(json.dumps(value, ensure_ascii=False))
    return value


def digest(domain: str, data: bytes) -> str:
    """Returns ``sha256:<hex>`` of bytes under a domain, so that no kind passes as another."""
    return "sha256:" + hashlib.sha256(domain.encode() + b"\0" + data).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise CanonicalError(f"duplicate key {twice!r}")
    return result


def _refuse_constant(name: str) -> Any:
    raise CanonicalError(f"{name} is not JSON")


def _check(value: object) -> None:
    """Refuses what lies outside the profile, a level of nesting at a time.

    It runs for every event and every message, so it looks at exact types first. Lone surrogates in
    plain strings are left to the encoding.
    """
    level: list[Any] = [(value,)]
    for _ in range(_MAX_DEPTH + 1):
        deeper: list[Any] = []
        for container in level:
            for item in _items(container):
                kind = type(item)
                if kind in _PLAIN:
                    continue
                if kind in _CONTAINERS or isinstance(item, dict | list | tuple):
                    deeper.append(item)
                else:
                    _check_scalar(item)
        if not deeper:
            return
        level = deeper
    raise CanonicalError(f"nested deeper than {_MAX_DEPTH}")


def _items(container: Any) -> Iterable[Any]:
    if not isinstance(container, dict):
        return container  # type: ignore[no-any-return]
    for key in container:
        if not isinstance(key, str):
            raise CanonicalError(f"object key {key!r} is not a string")
    return container.values()


def _check_scalar(value: object) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise CanonicalError(f"integer {value} is beyond 2^53-1")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise CanonicalError(f"{value} is not a finite number")
    else:
        raise CanonicalError(f"{type(value).__name__} is not a JSON type")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise CanonicalError("text holds a lone surrogate") from exc
