"""What a named format of text inputs is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Check = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Format:
    """One named format."""

    name: str
    expected: str
    """What a value looks like, for people."""
    check: Check
    identifier: bool = True
    """Whether letters outside ASCII are refused as confusable."""
    multiline: bool = False
    safe_start: bool = True
    constrained: bool = True
    """Whether it limits a value enough to be bound late into a change."""


def pattern(expression: str) -> Check:
    """Returns a check that matches the whole value against an expression."""
    compiled = re.compile(expression)
    return lambda value: compiled.fullmatch(value) is not None
