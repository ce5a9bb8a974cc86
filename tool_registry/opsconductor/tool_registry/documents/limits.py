"""Limits every document holds to, whatever it is written in."""

from __future__ import annotations

from typing import Any

from opsconductor.rpc.errors import Fault

MAX_DEPTH = 32
"""Deepest nesting of mappings and lists."""
MAX_NODES = 200_000
"""Most values in one document."""


class Refused(Exception):
    """Ends reading with one fault."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(fault.code)


def check_surrogates(text: str, line: int) -> None:
    """Refuses text that no encoding can carry."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise Refused(
            Fault(code="ENCODING", found="a lone surrogate", expected="Unicode text", line=line)
        )


def too_deep(code: str, line: int) -> Fault:
    """Returns the fault of a document beyond the limits."""
    return Fault(
        code=code,
        found="too many or too deeply nested values",
        expected=f"at most {MAX_DEPTH} levels and {MAX_NODES} values",
        line=line,
    )


def check_depth(value: Any, too_large: str) -> None:
    """Refuses what is nested too deep or holds too many values, or text that is not Unicode."""
    pending = [(value, 1)]
    nodes = 0
    while pending:
        item, depth = pending.pop()
        nodes += 1
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            raise Refused(too_deep(too_large, 0))
        if isinstance(item, dict):
            pending.extend((key, depth) for key in item)
            pending.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            pending.extend((child, depth + 1) for child in item)
        elif isinstance(item, str):
            check_surrogates(item, 0)
