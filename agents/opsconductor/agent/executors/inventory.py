"""Method "inventory": asks and changes the orchestrator's inventory through the agent's session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.base import Outcome, Refused, StepFailure
from opsconductor.agent.executors.waiting import boottime, wait_end
from opsconductor.rpc.errors import OpsConductorError
from opsconductor.tool_registry.rendering.rendered import InternalCall

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import Call, Sink, Stop

READS = frozenset({"asset_query", "asset_get"})
CHANGES = frozenset({"asset_create", "asset_update", "asset_replace", "asset_delete"})


@dataclass(slots=True)
class InventoryRequest:
    """What is asked of the inventory."""

    handler: str
    args: Mapping[str, Any]
    attempt_id: str
    """The attempt it is for: the orchestrator allows a change to no other."""
    sent: bool = False
    """Whether a change may have been received."""


InventoryQuery = Callable[[InventoryRequest], Awaitable[dict[str, Any]]]
"""Takes a request, returns what the inventory says; raises OpsConductorError."""


class InventoryExecutor:
    """Finds, creates, updates and deletes assets; the outcome's output is the answer."""

    method = "inventory"

    def __init__(self, query: InventoryQuery) -> None:
        self._query = query

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Asks the inventory. See Executor."""
        try:
            request = _request(call)
        except Refused as refused:
            return refused.outcome
        if cancel.is_set():
            return Outcome.not_begun(call, "cancelled")
        answer = asyncio.ensure_future(self._query(request))
        try:
            deadline = boottime() + call.timeout.total_seconds()
            what = await wait_end(answer, cancel, deadline)
            if what != "ended":
                return _stopped(call, request, what)
            return Outcome.ended(call, None, answer.result())
        except OpsConductorError as error:
            return _failed(call, request, error)
        finally:
            answer.cancel()

    async def close(self) -> None:
        """Keeps nothing."""


def _request(call: Call) -> InventoryRequest:
    rendered = call.rendered
    name = rendered.handler if isinstance(rendered, InternalCall) else type(rendered).__name__
    if not isinstance(rendered, InternalCall) or name not in READS | CHANGES:
        known = ", ".join(sorted(READS | CHANGES))
        message = f"the inventory executor answers {known}, not {name}"
        raise Refused(Outcome.refused("METHOD_MISMATCH", message))
    if call.read_only and name in CHANGES:
        message = f"this step may only read, but {name} changes the inventory"
        raise Refused(Outcome.refused("READ_ONLY", message))
    return InventoryRequest(name, rendered.args, call.attempt_id)


def _stopped(call: Call, request: InventoryRequest, why: Stop) -> Outcome:
    if request.handler in READS:
        return Outcome.stopped(call, why, exit_code=None)
    if not request.sent:
        return Outcome.not_begun(call, why)
    message = f"{why.replace('_', ' ')} after {request.handler} was sent, before its answer"
    return Outcome.lost(call, "OUTCOME_UNKNOWN", message)


def _failed(call: Call, request: InventoryRequest, error: OpsConductorError) -> Outcome:
    message = f"the inventory did not answer: {error}"
    if not error.retryable:
        said = f"{request.handler}: {error}"
        return Outcome("failed", error=StepFailure(error.reason, said, "non_retryable"))
    if request.sent:
        return Outcome.lost(call, error.reason, message)
    return Outcome.unreachable(error.reason, message)
