"""Copies of frozen values with some fields changed."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def replace(value: T, /, **changes: Any) -> T:
    """Returns a copy of a frozen dataclass with other values in some fields.

    An execution is copied several times an event; dataclasses.replace, which looks at every field
    and calls the constructor, is a tenth of everything the orchestrator then does. For plain
    dataclasses only: no slots, no __post_init__, no cached properties.

    Raises:
        TypeError: There is no such field.
    """
    fields = vars(value)
    if not changes.keys() <= fields.keys():
        raise TypeError(f"{type(value).__name__} has no {sorted(changes.keys() - fields.keys())}")
    copy = object.__new__(type(value))
    vars(copy).update(fields, **changes)
    return copy
