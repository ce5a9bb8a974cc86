"""ApprovalService. See approval_service.proto."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.engine.deciding import Words
from opsconductor.orchestrator.servicers import wire, wire_plans
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import InvalidArgument
from opsconductor.rpc.identity import identity_of
from opsconductor.v1 import approval_service_pb2 as pb
from opsconductor.v1 import approval_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.executions.execution import Approval, Execution
    from opsconductor.orchestrator.engine.deciding import Deciding
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.fleet import Fleet
    from opsconductor.orchestrator.servicers.call import Context
    from opsconductor.orchestrator.store.store import Store

_KINDS = {
    pb.DECISION_KIND_APPROVE: "approve",
    pb.DECISION_KIND_REJECT: "reject",
    pb.DECISION_KIND_REQUEST_CHANGES: "request_changes",
    pb.DECISION_KIND_EDIT: "edit",
}
_WIRE_KINDS = {word: value for value, word in _KINDS.items()}


class ApprovalServicer(pb_grpc.ApprovalServiceServicer):
    """Lists and decides approval requests."""

    def __init__(self, store: Store, engine: Engine, deciding: Deciding, fleet: Fleet) -> None:
        self._store = store
        self._engine = engine
        self._deciding = deciding
        self._fleet = fleet

    async def List(  # noqa: N802
        self, request: pb.ListApprovalsRequest, context: Context
    ) -> pb.ListApprovalsResponse:
        """See approval_service.proto."""
        states = []
        if request.state:
            states = [pb.ApprovalState.Name(request.state).removeprefix("APPROVAL_STATE_").lower()]
        page = await self._store.list_approvals(
            identity_of(context).tenant,
            states=states,
            execution_id=request.execution_id,
            page_size=wire.page_size(request.page_size, 50, 200),
            page_token=request.page_token,
        )
        approvals = []
        for row in page.rows:
            state = await self._engine.execution(row.execution_id)
            approvals.append(_approval(state, state.approvals[row.approval_id]))
        return pb.ListApprovalsResponse(approvals=approvals, next_page_token=page.next_page_token)

    async def Get(  # noqa: N802
        self, request: pb.GetApprovalRequest, context: Context
    ) -> pb.GetApprovalResponse:
        """See approval_service.proto."""
        tenant = identity_of(context).tenant
        execution_id = await self._deciding.execution_id(request.approval_id, tenant)
        state = await self._engine.execution(execution_id)
        approval = state.approvals[request.approval_id]
        revision = state.revisions[approval.revision - 1]
        steps = [revision.step(step_id) for step_id in approval.step_ids]
        fleet = self._fleet.views(tenant)
        return pb.GetApprovalResponse(
            approval=_approval(state, approval),
            steps=[wire_plans.step_preview(step, fleet) for step in steps],
            manifest=revision.manifest_bytes,
            step_bodies=[step.body_bytes for step in steps],
            plan_document=canonical.dumps(state.plan_document),
        )

    async def Decide(  # noqa: N802
        self, request: pb.DecideRequest, context: Context
    ) -> pb.DecideResponse:
        """See approval_service.proto."""
        caller = identity_of(context)
        kind = _KINDS.get(request.kind)
        if kind is None:
            raise InvalidArgument("kind is missing: approve, reject, request changes or edit")
        words = Words(
            caller.name, caller.tenant, request.reason, request.statement, request.signature
        )
        if kind == "edit":
            source = wire_plans.source(request.edited_plan)
            state = await self._deciding.edit(request.approval_id, source, words)
        else:
            state = await self._deciding.decide(request.approval_id, kind, words)
        return pb.DecideResponse(approval=_approval(state, state.approvals[request.approval_id]))


def _approval(state: Execution, approval: Approval) -> pb.ApprovalRequest:
    return pb.ApprovalRequest(
        approval_id=approval.approval_id,
        execution_id=state.execution_id,
        step_id=approval.step_id,
        level=approval.level,
        state=pb.ApprovalState.Value(f"APPROVAL_STATE_{approval.state.upper()}"),
        reasons=list(approval.reasons),
        requirement=approval.requirement_text,
        create_time=wire.timestamp(approval.created_at),
        expire_time=wire.timestamp(approval.expires_at),
        decisions=[
            pb.Decision(
                kind=_WIRE_KINDS[decision.kind],
                person=decision.person,
                time=wire.timestamp(decision.at),
                reason=decision.reason,
                statement=decision.statement.encode(),
                signature=decision.signature,
            )
            for decision in approval.decisions
        ],
        plan_digest=approval.plan_digest,
        step_ids=list(approval.step_ids),
        plan_name=state.compiled.name,
        requester=state.requester,
        revision=approval.revision,
    )
