"""Waiting for the end of a call, a cancel or the timeout, whichever comes first."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

# Loop timers stand still while the machine sleeps; the boot clock is looked at this often.
_SLICE = 1.0


def boottime() -> float:
    """Returns seconds on the clock that also counts suspended time."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def wait_end(
    end: asyncio.Future[Any], cancel: asyncio.Event, deadline: float
) -> Literal["ended", "cancelled", "timed_out"]:
    """Returns what happened first; an end that is already there wins. Leaves ``end`` running.

    ``deadline`` is a boottime.
    """
    cancelled = asyncio.ensure_future(cancel.wait())
    try:
        while not end.done() and not cancelled.done():
            left = deadline - boottime()
            if left <= 0:
                return "timed_out"
            await asyncio.wait(
                {end, cancelled}, timeout=min(left, _SLICE), return_when=asyncio.FIRST_COMPLETED
            )
        return "ended" if end.done() else "cancelled"
    finally:
        cancelled.cancel()
