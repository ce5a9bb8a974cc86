"""Names close to what was written."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def close_names(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Returns the known names most like the written one, best first."""
    wanted = canonical_name(name[:200])
    by_canonical: dict[str, str] = {}
    for candidate in known:
        by_canonical.setdefault(canonical_name(candidate), candidate)
    close = difflib.get_close_matches(wanted, by_canonical, n=limit, cutoff=0.6)
    return [by_canonical[found] for found in close]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ``did you mean x?``, or nothing when no known name is close."""
    close = close_names(name, known, 1)
    return f"did you mean {close[0]}?" if close else ""


def canonical_name(name: str) -> str:
    """Returns the name as the registry compares names: lower case, ``_`` for ``-`` and blanks."""
    return "_".join(
        part for part in name.lower().replace("-", "_").replace(" ", "_").split("_") if part
    )
