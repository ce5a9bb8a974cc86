"""Method "inventory": asks the orchestrator's inventory through the agent's own session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.base import Outcome, StepFailure
from opsconductor.agent.executors.waiting import boottime, wait_end
from opsconductor.rpc.errors import OpsConductorError
from opsconductor.tool_registry.rendered import InternalCall

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import Call, Sink

InventoryQuery = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""Takes filters, returns what the inventory says; raises OpsConductorError."""


class InventoryExecutor:
    """Answers asset questions; the outcome's output is the inventory's answer."""

    method = "inventory"

    def __init__(self, query: InventoryQuery) -> None:
        self._query = query

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Asks the inventory. See Executor."""
        request = call.rendered
        if not isinstance(request, InternalCall) or request.handler != "asset_query":
            what = request.handler if isinstance(request, InternalCall) else type(request).__name__
            message = f"the inventory executor answers asset_query, not {what}"
            return Outcome.refused("METHOD_MISMATCH", message)
        if cancel.is_set():
            return Outcome.not_begun(call, "cancelled")
        answer = asyncio.ensure_future(self._query(request.args))
        try:
            deadline = boottime() + call.timeout.total_seconds()
            what = await wait_end(answer, cancel, deadline)
            if what != "ended":
                return Outcome.stopped(call, what, exit_code=None)
            return Outcome.ended(call, None, answer.result())
        except OpsConductorError as error:
            message = f"the inventory did not answer: {error}"
            if error.retryable:
                return Outcome.unreachable(error.reason, message)
            return Outcome("failed", error=StepFailure(error.reason, message, "non_retryable"))
        finally:
            answer.cancel()

    async def close(self) -> None:
        """Keeps nothing."""
