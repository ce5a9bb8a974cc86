"""ExecutionService. See execution_service.proto."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.engine.deciding import Words
from opsconductor.orchestrator.engine.submission import Submission
from opsconductor.orchestrator.servicers import wire, wire_executions, wire_plans
from opsconductor.rpc.errors import InvalidArgument
from opsconductor.rpc.identity import identity_of
from opsconductor.v1 import execution_service_pb2 as pb
from opsconductor.v1 import execution_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.engine.deciding import Deciding
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.history import History
    from opsconductor.orchestrator.engine.probing import Probing
    from opsconductor.orchestrator.engine.submission import Submissions
    from opsconductor.orchestrator.servicers.call import Context
    from opsconductor.orchestrator.store.store import Store

MAX_PAGE = 200
MAX_WAIT = 300.0  # seconds; longer waits are for Watch
_RESOLUTIONS = {
    pb.UNKNOWN_RESOLUTION_COMPLETED: "completed",
    pb.UNKNOWN_RESOLUTION_FAILED: "failed",
    pb.UNKNOWN_RESOLUTION_RETRY: "retry",
}


class _Named(Protocol):
    """A request that names an execution."""

    @property
    def execution_id(self) -> str:
        """Our id, or the caller's."""


class ExecutionServicer(pb_grpc.ExecutionServiceServicer):
    """Runs plans and tells what became of them."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        submissions: Submissions,
        history: History,
        deciding: Deciding,
        probing: Probing,
    ) -> None:
        self._store = store
        self._engine = engine
        self._submissions = submissions
        self._history = history
        self._deciding = deciding
        self._probing = probing

    async def Submit(  # noqa: N802
        self, request: pb.SubmitRequest, context: Context
    ) -> pb.SubmitResponse:
        """See execution_service.proto."""
        caller = identity_of(context)
        requester = request.actor if caller.role == "service" and request.actor else caller.name
        accepted = await self._submissions.submit(
            Submission(
                source=wire_plans.source(request.plan),
                tenant=caller.tenant,
                requester=requester,
                submitted_by=caller.name,
                request_id=request.request_id,
                external_id=request.external_id,
                traceparent=request.traceparent,
            )
        )
        state = accepted.execution
        if request.wait and state.compiled.run == "immediate":
            state = await self._wait(state, context)
        return pb.SubmitResponse(
            execution=await self._whole(state),
            already_submitted=accepted.already,
            warnings=wire.faults(accepted.warnings),
        )

    async def Get(  # noqa: N802
        self, request: pb.GetRequest, context: Context
    ) -> pb.GetResponse:
        """See execution_service.proto."""
        return pb.GetResponse(execution=await self._whole(await self._find(request, context)))

    async def List(  # noqa: N802
        self, request: pb.ListRequest, context: Context
    ) -> pb.ListResponse:
        """See execution_service.proto."""
        page = await self._store.list_executions(
            identity_of(context).tenant,
            states=[
                pb.ExecutionState.Name(state).removeprefix("EXECUTION_STATE_").lower()
                for state in request.states
            ],
            text=request.text,
            page_size=wire.page_size(request.page_size, 50, MAX_PAGE),
            page_token=request.page_token,
        )
        executions = [wire_executions.listed(row) for row in page.rows]
        return pb.ListResponse(executions=executions, next_page_token=page.next_page_token)

    async def Watch(  # noqa: N802
        self, request: pb.WatchRequest, context: Context
    ) -> AsyncIterator[pb.WatchResponse]:
        """See execution_service.proto."""
        state = await self._find(request, context)
        if request.from_seq < 0:
            raise InvalidArgument("from_seq is negative: events are numbered from 1")
        async for item in self._history.watch(state.execution_id, max(1, request.from_seq)):
            yield wire_executions.event(item)

    async def ReadOutput(  # noqa: N802
        self, request: pb.ReadOutputRequest, context: Context
    ) -> AsyncIterator[pb.ReadOutputResponse]:
        """See execution_service.proto."""
        state = await self._find(request, context)
        if request.step_id and request.step_id not in state.steps:
            raise InvalidArgument(
                f"execution {state.execution_id} has no step {request.step_id}; it has "
                + ", ".join(state.steps)
            )
        pieces = self._history.outputs.read(
            state,
            step_id=request.step_id,
            attempt_id=request.attempt_id,
            skip={1: request.stdout_offset, 2: request.stderr_offset},
            follow=request.follow,
        )
        async for item in pieces:
            yield wire_executions.piece(item)

    async def Cancel(  # noqa: N802
        self, request: pb.CancelRequest, context: Context
    ) -> pb.CancelResponse:
        """See execution_service.proto."""
        person = identity_of(context).name
        state = await self._command(
            request, context, lambda state, _: commands.cancel(state, person, request.reason)
        )
        return pb.CancelResponse(execution=await self._whole(state))

    async def Pause(  # noqa: N802
        self, request: pb.PauseRequest, context: Context
    ) -> pb.PauseResponse:
        """See execution_service.proto."""
        person = identity_of(context).name
        state = await self._command(
            request, context, lambda state, _: commands.pause(state, person, request.reason)
        )
        return pb.PauseResponse(execution=await self._whole(state))

    async def Resume(  # noqa: N802
        self, request: pb.ResumeRequest, context: Context
    ) -> pb.ResumeResponse:
        """See execution_service.proto."""
        person = identity_of(context).name
        state = await self._command(
            request, context, lambda state, _: commands.resume(state, person)
        )
        return pb.ResumeResponse(execution=await self._whole(state))

    async def Rollback(  # noqa: N802
        self, request: pb.RollbackRequest, context: Context
    ) -> pb.RollbackResponse:
        """See execution_service.proto."""
        person = identity_of(context).name
        state = await self._command(
            request, context, lambda state, _: commands.rollback(state, person, request.reason)
        )
        return pb.RollbackResponse(execution=await self._whole(state))

    async def Probe(  # noqa: N802
        self, request: pb.ProbeRequest, context: Context
    ) -> pb.ProbeResponse:
        """See execution_service.proto."""
        caller = identity_of(context)
        asked = Submission(
            source={},
            tenant=caller.tenant,
            requester=caller.name,
            submitted_by=caller.name,
            request_id=request.request_id,
        )
        found = await self._find(request, context)
        state = (await self._probing.probe(found, request.step_id, asked)).execution
        if request.wait:
            state = await self._wait(state, context)
        return pb.ProbeResponse(execution=await self._whole(state))

    async def ResolveUnknown(  # noqa: N802
        self, request: pb.ResolveUnknownRequest, context: Context
    ) -> pb.ResolveUnknownResponse:
        """See execution_service.proto."""
        caller = identity_of(context)
        resolution = _RESOLUTIONS.get(request.resolution)
        if resolution is None:
            raise InvalidArgument("resolution is missing: completed, failed or retry")
        found = await self._find(request, context)
        words = Words(
            caller.name, caller.tenant, request.reason, request.statement, request.signature
        )
        state = await self._deciding.resolve(found.execution_id, request.step_id, resolution, words)
        return pb.ResolveUnknownResponse(execution=await self._whole(state))

    async def _find(
        self,
        request: _Named,
        context: Context,
    ) -> Execution:
        return await self._history.find(request.execution_id, identity_of(context).tenant)

    async def _command(
        self,
        request: _Named,
        context: Context,
        decide: Callable[[Execution, datetime], commands.Events],
    ) -> Execution:
        state = await self._find(request, context)
        return await self._engine.command(state.execution_id, decide)

    async def _wait(self, state: Execution, context: Context) -> Execution:
        """Waits for the end as long as the caller does; what runs goes on in any case."""
        remaining = context.time_remaining()
        limit = min(MAX_WAIT, remaining - 0.1 if remaining else MAX_WAIT)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, limit)):
                return await self._history.settled(state.execution_id)
        return await self._engine.execution(state.execution_id)

    async def _whole(self, state: Execution) -> pb.Execution:
        waiting = {
            step_id: reason
            for step_id in state.steps
            if (reason := self._engine.waiting_reason(state.execution_id, step_id))
        }
        outputs, kept = self._history.outputs, {}
        for attempt in state.attempts.values():
            complete = await outputs.complete(attempt)
            gaps = await outputs.gaps(state, attempt, complete=complete)
            kept[attempt.attempt_id] = wire_executions.Kept(complete, gaps)
        return wire_executions.execution(state, waiting, kept)
