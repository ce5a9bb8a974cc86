"""Plain scalars of the YAML 1.2 core schema: null, true, 12, 0x1f, 1.5; everything else is text."""

from __future__ import annotations

import math
import re

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)|NaN|-?Infinity")
_MAX_INTEGER = 2**53 - 1


class NumberFault(ValueError):
    """The scalar is a number that JSON readers do not agree on."""

    def __init__(self, expected: str) -> None:
        self.expected = expected
        super().__init__(expected)


def plain_value(text: str) -> bool | int | float | str | None:
    """Returns the value of a plain scalar; raises NumberFault for a number nobody can rely on."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _NOT_FINITE.fullmatch(text):
        raise NumberFault("a finite number, or quotes around a text")
    if _INTEGER.fullmatch(text):
        return whole_number(text, 10)
    if _OCTAL.fullmatch(text):
        return whole_number(text[2:], 8)
    if _HEXADECIMAL.fullmatch(text):
        return whole_number(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return _float(text)
    return text


def whole_number(text: str, base: int) -> int:
    """Returns the integer; raises NumberFault beyond 2^53-1 (inexact as a float) and for -0."""
    if text.startswith("-") and not text.strip("-0"):
        raise NumberFault("0 without a sign")
    if len(text) > 20:
        raise NumberFault("an integer up to 9007199254740991")
    value = int(text, base)
    if abs(value) > _MAX_INTEGER:
        raise NumberFault("an integer up to 9007199254740991")
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NumberFault("a number a 64-bit float can hold")
    if value == 0 and text.startswith("-"):
        raise NumberFault("0 without a sign")
    return value
