"""Makes a failing run smaller: the fewest faults with which the same invariant still fails."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulation.running import run

if TYPE_CHECKING:
    from simulation.scenario import Verdict

TRIES = 40


def shrink(verdict: Verdict) -> Verdict:
    """Returns the smallest failing run that was found by leaving out faults, many and then one."""
    best = verdict
    total = len(verdict.faults) + len(verdict.scenario.without)
    left_out = set(verdict.scenario.without)
    size, tries = max(total // 2, 1), 0
    while size >= 1 and tries < TRIES:
        kept = [index for index in range(total) if index not in left_out]
        progress = False
        for first in range(0, len(kept), size):
            candidate = left_out | set(kept[first : first + size])
            tries += 1
            found = run(replace(best.scenario, without=frozenset(candidate)))
            if _same(found, verdict):
                best, left_out, progress = found, candidate, True
                break
            if tries >= TRIES:
                break
        if not progress:
            size //= 2
    return best


def _same(found: Verdict, verdict: Verdict) -> bool:
    return (
        found.violation is not None
        and verdict.violation is not None
        and found.violation.invariant == verdict.violation.invariant
    )
