"""How long a plan takes, and whether it runs in the foreground."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

IMMEDIATE_LIMIT = timedelta(seconds=30)
IMMEDIATE_STEPS = 10
"""A plan of more steps is no simple one and runs in the background."""


def longest_path(
    needs: Mapping[str, tuple[str, ...]], estimates: Mapping[str, timedelta | None]
) -> timedelta | None:
    """Returns the time along the longest path; None when any step's time is unknown.

    Steps may stand in any order; there must be no cycle.
    """
    ends: dict[str, timedelta] = {}
    pending = list(needs)[::-1]
    while pending:
        step_id = pending[-1]
        if step_id in ends:
            pending.pop()
            continue
        open_needs = [need for need in needs[step_id] if need not in ends]
        if open_needs:
            pending.extend(open_needs)
            continue
        estimate = estimates[step_id]
        if estimate is None:
            return None
        ends[step_id] = estimate + max((ends[need] for need in needs[step_id]), default=timedelta())
        pending.pop()
    return max(ends.values(), default=timedelta())


def run_mode(
    asked: str, *, estimate: timedelta | None, waits: bool, heavy: bool, steps: int
) -> str:
    """Returns ``immediate`` or ``background``; what the caller asked for wins over ``auto``.

    Args:
        asked: ``auto``, ``immediate`` or ``background``.
        estimate: Expected time; None when unknown.
        waits: Whether an approval has to be waited for.
        heavy: Whether a tool loads its host heavily.
        steps: How many steps there are.
    """
    if asked != "auto":
        return asked
    quick = estimate is not None and estimate < IMMEDIATE_LIMIT
    simple = steps <= IMMEDIATE_STEPS and not heavy
    return "immediate" if quick and simple and not waits else "background"
