"""One exchange with a server: until it is sent a stop undoes it, afterwards only its answer tells.

Used by executors whose calls nobody can take back once they are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.base import Outcome
from opsconductor.agent.executors.waiting import boottime, wait_end

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from opsconductor.agent.executors.base import Call


class Progress:
    """Whether anything that has effects was sent."""

    def __init__(self) -> None:
        self.sent = False

    async def trace(self, event: str, _info: Mapping[str, Any]) -> None:
        """Takes one event of an HTTP exchange, as httpcore tells it."""
        self.sent = self.sent or event.endswith("send_request_headers.started")


async def follow(
    call: Call,
    exchange: Coroutine[Any, Any, Outcome],
    progress: Progress,
    cancel: asyncio.Event,
    name: str,
) -> Outcome:
    """Returns the exchange's outcome, or what a cancel or timeout made of it."""
    if cancel.is_set():
        exchange.close()
        return Outcome.not_begun(call, "cancelled")
    running = asyncio.ensure_future(exchange)
    try:
        what = await wait_end(running, cancel, boottime() + call.timeout.total_seconds())
        if what == "ended":
            return running.result()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await running
    if not progress.sent:
        return Outcome.not_begun(call, what)
    if call.read_only:
        return Outcome.stopped(call, what, exit_code=None)
    message = f"{what.replace('_', ' ')} after {name} was sent, before its answer"
    return Outcome.lost(call, "OUTCOME_UNKNOWN", message)
