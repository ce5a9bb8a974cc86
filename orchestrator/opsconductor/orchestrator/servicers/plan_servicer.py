"""PlanService. See plan_service.proto."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.servicers import wire, wire_plans
from opsconductor.rpc.identity import identity_of
from opsconductor.v1 import plan_service_pb2 as pb
from opsconductor.v1 import plan_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from opsconductor.orchestrator.engine.fleet import Fleet
    from opsconductor.orchestrator.engine.planning import Planner
    from opsconductor.orchestrator.servicers.call import Context


class PlanServicer(pb_grpc.PlanServiceServicer):
    """Judges plans."""

    def __init__(self, planner: Planner, fleet: Fleet) -> None:
        self._planner = planner
        self._fleet = fleet

    async def Validate(  # noqa: N802
        self, request: pb.ValidateRequest, context: Context
    ) -> pb.ValidateResponse:
        """See plan_service.proto."""
        tenant = identity_of(context).tenant
        faults, warnings = await self._planner.check(wire_plans.source(request.plan), tenant)
        return pb.ValidateResponse(faults=wire.faults(faults), warnings=wire.faults(warnings))

    async def Preview(  # noqa: N802
        self, request: pb.PreviewRequest, context: Context
    ) -> pb.PreviewResponse:
        """See plan_service.proto."""
        tenant = identity_of(context).tenant
        judged = await self._planner.judge(wire_plans.source(request.plan), tenant)
        response = wire_plans.preview(judged.compiled, self._fleet.views(tenant))
        response.warnings.extend(wire.faults(judged.warnings))
        return response
