"""On a signal a process writes down what every thread and every task of it waits for."""

from __future__ import annotations

import faulthandler
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNAL = signal.SIGUSR2


def answer() -> None:
    """Has the signal write to standard error: threads even when Python stands still, then tasks."""
    signal.signal(SIGNAL, _tell_tasks)
    faulthandler.register(SIGNAL, all_threads=True, chain=True)


def _tell_tasks(_: int, __: FrameType | None) -> None:
    import asyncio

    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:
        return
    for task in tasks:
        if "_request_" in repr(task.get_coro()):
            continue  # gRPC's own, for a call that may come
        waits = " < ".join(reversed([*_places(task.get_coro())]))
        sys.stderr.write(f"task {task.get_name()} ({task.cancelling()} cancels): {waits}\n")
    sys.stderr.flush()


def _places(coroutine: Any) -> Iterator[str]:
    """Yields where a coroutine stands, and each that it waits for."""
    while coroutine is not None:
        for kind, awaited in (("cr", "await"), ("gi", "yieldfrom"), ("ag", "await")):
            if frame := getattr(coroutine, f"{kind}_frame", None):
                name = frame.f_code.co_filename.rpartition("/")[2]
                yield f"{name}:{frame.f_lineno} {frame.f_code.co_name}"
            if hasattr(coroutine, f"{kind}_{awaited}"):
                coroutine = getattr(coroutine, f"{kind}_{awaited}")
                break
        else:
            yield repr(coroutine)[:150]
            return
