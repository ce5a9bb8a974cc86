"""Ending tasks without swallowing the end of one's own."""

from __future__ import annotations

import asyncio
from typing import Any


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancels tasks and waits until they are gone, whatever they end with.

    A cancellation of the caller meanwhile is raised: to suppress it where a task is awaited would
    let the caller run on for ever.
    """
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def cancelled_from_outside() -> bool:
    """Tells whether the current task itself was asked to end.

    gRPC raises CancelledError also in who reads from a call that was cancelled locally.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
