"""The synchronous client: the methods of ``client.Client`` without an event loop."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from opsconductor.client import approving, requests
from opsconductor.client.connection import TIMEOUT
from opsconductor.client.persistence import REPEATED, Persistence
from opsconductor.client.streams import OutputCursor, WatchCursor
from opsconductor.client.sync_connection import SyncConnection
from opsconductor.client.sync_fleet import SyncFleetCalls
from opsconductor.rpc.channel import open_channel
from opsconductor.rpc.errors import (
    AlreadyDecided,
    InvalidArgument,
    OpsConductorError,
    PlanInvalid,
    Superseded,
)
from opsconductor.rpc.status import FAULTS_OMITTED, fault_from_wire
from opsconductor.v1 import approval_service_pb2 as approvals
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1 import plan_service_pb2 as plans
from opsconductor.v1.approval_service_pb2_grpc import ApprovalServiceStub
from opsconductor.v1.execution_service_pb2_grpc import ExecutionServiceStub
from opsconductor.v1.plan_service_pb2_grpc import PlanServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    import grpc

    from opsconductor.client.approving import Signed
    from opsconductor.client.context import Context
    from opsconductor.client.requests import PlanLike
    from opsconductor.client.signer import Signer


class SyncClient(SyncFleetCalls):
    """Calls an orchestrator from ordinary code and threads; promises what ``Client`` does."""

    def __init__(
        self,
        context: Context | None = None,
        *,
        channel: grpc.Channel | None = None,
        persistence: Persistence | None = None,
    ) -> None:
        if channel is not None:
            channels = {"": channel}
        elif context is None:
            raise InvalidArgument("a client needs a context or a channel")
        else:
            tls = context.tls()
            channels = {each: open_channel(each, tls, aio=False) for each in context.endpoints}
        self.context = context
        super().__init__(SyncConnection(channels, persistence))
        stubs_of = self._connection.channel
        self._plans = PlanServiceStub(stubs_of)
        self._executions = ExecutionServiceStub(stubs_of)
        self._approvals = ApprovalServiceStub(stubs_of)

    @property
    def endpoint(self) -> str:
        """The endpoint in use: the last one that answered."""
        return self._connection.endpoints.name

    def __enter__(self) -> Self:
        """Returns the client; it connects at its first call."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the connection."""
        self.close()

    def close(self) -> None:
        """Closes the connection; running streams end."""
        self._connection.close()

    # Plans

    def validate(self, plan: PlanLike) -> plans.ValidateResponse:
        """Checks a plan and returns all faults; none means it is valid."""
        request = plans.ValidateRequest(plan=requests.plan_source(plan))
        return self._connection.call(self._plans.Validate, request)

    def preview(self, plan: PlanLike) -> plans.PreviewResponse:
        """Returns what would happen, without doing it; raises PlanInvalid with all faults."""
        request = plans.PreviewRequest(plan=requests.plan_source(plan))
        try:
            return self._connection.call(self._plans.Preview, request)
        except PlanInvalid as error:
            raise self._with_all_faults(error, plan) from None

    def submit(
        self,
        plan: PlanLike,
        *,
        request_id: str = "",
        external_id: str = "",
        actor: str = "",
        wait: bool = False,
        traceparent: str = "",
        timeout: timedelta | None = None,
    ) -> executions.SubmitResponse:
        """Submits a plan; it is on disk when this returns. Raises PlanInvalid with all faults.

        With ``wait`` the answer comes at the end of a plan that runs immediately, however long it
        takes unless a timeout is given; a timeout counts for all tries of the call together.
        """
        request = requests.submit_request(
            plan,
            given_request_id=request_id,
            external_id=external_id,
            actor=actor,
            wait=wait,
            traceparent=traceparent,
        )
        limit = None if wait or timeout else TIMEOUT
        try:
            return self._connection.call(
                self._executions.Submit, request, timeout=limit, deadline=timeout
            )
        except PlanInvalid as error:
            raise self._with_all_faults(error, plan) from None

    # Executions

    def get(self, execution_id: str) -> executions.Execution:
        """Returns an execution by our id or the caller's external id."""
        request = executions.GetRequest(execution_id=execution_id)
        return (self._connection.call(self._executions.Get, request)).execution

    def list(
        self,
        *,
        states: Iterable[str] = (),
        text: str = "",
        page_size: int = 0,
        page_token: str = "",
    ) -> executions.ListResponse:
        """Returns a page of executions, newest first; states are words such as ``running``."""
        request = requests.list_request(tuple(states), text, page_size, page_token)
        return self._connection.call(self._executions.List, request)

    def watch(self, execution_id: str, from_seq: int = 1) -> Iterator[executions.WatchResponse]:
        """Yields every event from a number on, each once, and ends after the last.

        A lost connection is made again, and the stream goes on with the event after the last one.
        """
        cursor = WatchCursor(execution_id, max(from_seq, 1))
        return self._connection.stream(
            lambda: self._executions.Watch(cursor.request()), cursor.accept
        )

    def wait(self, execution_id: str) -> executions.Execution:
        """Waits for the last event of an execution, then returns it."""
        for _ in self.watch(execution_id):
            pass
        return self.get(execution_id)

    def read_output(
        self,
        execution_id: str,
        *,
        step_id: str = "",
        attempt_id: str = "",
        stdout_offset: int = 0,
        stderr_offset: int = 0,
        follow: bool = False,
    ) -> Iterator[executions.ReadOutputResponse]:
        """Yields stored output, each byte once; with ``follow`` until all of it has arrived.

        A lost connection is made again, and the stream goes on after the last byte.
        """
        cursor = OutputCursor(
            execution_id, step_id, attempt_id, stdout_offset, stderr_offset, follow
        )
        return self._connection.stream(
            lambda: self._executions.ReadOutput(cursor.request()), cursor.accept
        )

    def cancel(
        self, execution_id: str, reason: str = "", *, request_id: str = ""
    ) -> executions.Execution:
        """Asks for cancellation; a finished execution is returned as it is."""
        request = executions.CancelRequest(
            request_id=requests.request_id(request_id), execution_id=execution_id, reason=reason
        )
        return (self._connection.call(self._executions.Cancel, request)).execution

    def pause(
        self, execution_id: str, reason: str = "", *, request_id: str = ""
    ) -> executions.Execution:
        """Stops new steps from starting."""
        request = executions.PauseRequest(
            request_id=requests.request_id(request_id), execution_id=execution_id, reason=reason
        )
        return (self._connection.call(self._executions.Pause, request)).execution

    def resume(self, execution_id: str, *, request_id: str = "") -> executions.Execution:
        """Lets a paused execution go on."""
        request = executions.ResumeRequest(
            request_id=requests.request_id(request_id), execution_id=execution_id
        )
        answer = self._connection.call(self._executions.Resume, request, repeatable=False)
        return answer.execution

    def rollback(
        self, execution_id: str, reason: str = "", *, request_id: str = ""
    ) -> executions.Execution:
        """Takes back the effects of a finished execution."""
        request = executions.RollbackRequest(
            request_id=requests.request_id(request_id), execution_id=execution_id, reason=reason
        )
        answer = self._connection.call(self._executions.Rollback, request, repeatable=False)
        return answer.execution

    def probe(
        self,
        execution_id: str,
        step_id: str,
        *,
        request_id: str = "",
        wait: bool = False,
        timeout: timedelta | None = None,
    ) -> executions.Execution:
        """Starts the run that reads what an unknown step did, as its tool declares; returns it.

        Raises NoProbe where the tool declares none. With ``wait`` the answer comes at its
        end, or when a person has to decide, or shortly before the timeout.
        """
        request = executions.ProbeRequest(
            request_id=requests.request_id(request_id),
            execution_id=execution_id,
            step_id=step_id,
            wait=wait,
        )
        limit = timeout or (None if wait else TIMEOUT)
        return self._connection.call(self._executions.Probe, request, timeout=limit).execution

    def resolve_unknown(
        self,
        execution_id: str,
        step_id: str,
        resolution: str,
        reason: str,
        *,
        signer: Signer | None = None,
        request_id: str = "",
    ) -> executions.Execution:
        """Records that an unknown step ``completed`` or ``failed``, or lets it ``retry``.

        A signer signs the retry; without it agents refuse to repeat what changes something.
        """
        request = executions.ResolveUnknownRequest(
            request_id=requests.request_id(request_id),
            execution_id=execution_id,
            step_id=step_id,
            resolution=requests.resolution(resolution),
            reason=reason,
        )
        if signer is not None and request.resolution == executions.UNKNOWN_RESOLUTION_RETRY:
            signed = approving.sign_retry(
                self.get(execution_id),
                step_id,
                signer,
                tenant=self._tenant(),
                now=datetime.now(UTC),
                reason=reason,
            )
            request.statement, request.signature = signed.statement, signed.signature
        answer = self._connection.call(self._executions.ResolveUnknown, request, repeatable=False)
        return answer.execution

    # Approvals

    def list_approvals(
        self, *, state: str = "", execution_id: str = "", page_size: int = 0, page_token: str = ""
    ) -> approvals.ListApprovalsResponse:
        """Returns a page of approval requests, newest first; state is a word like ``pending``."""
        request = approvals.ListApprovalsRequest(
            state=requests.approval_state(state),
            execution_id=execution_id,
            page_size=page_size,
            page_token=page_token,
        )
        return self._connection.call(self._approvals.List, request)

    def get_approval(self, approval_id: str) -> approvals.GetApprovalResponse:
        """Returns a request with everything needed to judge it; ``approving.check`` verifies it."""
        request = approvals.GetApprovalRequest(approval_id=approval_id)
        return self._connection.call(self._approvals.Get, request)

    def approve(
        self,
        approval_id: str,
        signer: Signer,
        *,
        reason: str = "",
        validity: timedelta = approving.VALIDITY,
        request_id: str = "",
    ) -> approvals.ApprovalRequest:
        """Fetches a request, checks its digests here, signs what was checked, and approves.

        Raises DigestMismatch, before anything is signed, when the content is not what is asked for.
        """
        checked = approving.check(self.get_approval(approval_id))
        signed = approving.sign_approval(
            checked, signer, now=datetime.now(UTC), validity=validity, reason=reason
        )
        return self.decide(
            approval_id, "approve", reason=reason, signed=signed, request_id=request_id
        )

    def decide(
        self,
        approval_id: str,
        decision: str,
        *,
        reason: str = "",
        signed: Signed | None = None,
        edited_plan: PlanLike | None = None,
        request_id: str = "",
    ) -> approvals.ApprovalRequest:
        """Records a decision: ``approve``, ``reject``, ``request_changes`` or ``edit``."""
        request = requests.decide_request(
            approval_id, decision, reason, signed, edited_plan, request_id
        )
        try:
            answer = self._connection.call(self._approvals.Decide, request)
        except (AlreadyDecided, Superseded) as error:
            approval = (self.get_approval(approval_id)).approval
            if REPEATED in error.metadata and requests.is_recorded(request, approval):
                return approval
            raise
        return answer.approval

    def _with_all_faults(self, error: PlanInvalid, plan: PlanLike) -> OpsConductorError:
        """Returns the error with the faults that a status had no room for."""
        if FAULTS_OMITTED not in error.metadata:
            return error
        answer = self.validate(plan)
        faults = [fault_from_wire(fault) for fault in answer.faults]
        return PlanInvalid(error.message, faults=faults or error.faults)

    def _tenant(self) -> str:
        if self.context is None:
            raise InvalidArgument("signing needs a context, which says whose tenant this is")
        return self.context.identity().tenant
