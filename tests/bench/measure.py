"""Timings and what they come to."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


def percentile(seconds: Sequence[float], share: float) -> float:
    """Returns the value below which a share (0 to 1) of the samples lies."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """Returns the middle of some samples."""
    return statistics.median(values)


async def times(work: Callable[[], Awaitable[object]], repetitions: int) -> list[float]:
    """Returns how long each repetition took, in seconds."""
    taken = []
    for _ in range(repetitions):
        start = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - start)
    return taken


async def seconds_of(work: Awaitable[object]) -> float:
    """Returns how long something took."""
    start = time.perf_counter()
    await work
    return time.perf_counter() - start
