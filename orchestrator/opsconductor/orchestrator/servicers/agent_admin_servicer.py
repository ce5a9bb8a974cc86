"""AgentAdminService. See agent_admin_service.proto."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from opsconductor.orchestrator.servicers import wire
from opsconductor.rpc.errors import NotFound
from opsconductor.rpc.identity import identity_of
from opsconductor.v1 import agent_admin_service_pb2 as pb
from opsconductor.v1 import agent_admin_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from opsconductor.orchestrator.engine.agents import Agents
    from opsconductor.orchestrator.engine.enrolment import Enrolment
    from opsconductor.orchestrator.engine.fleet import Fleet, Member
    from opsconductor.orchestrator.servicers.call import Context


class AgentAdminServicer(pb_grpc.AgentAdminServiceServicer):
    """Watches over agents."""

    def __init__(self, fleet: Fleet, agents: Agents, enrolment: Enrolment) -> None:
        self._fleet = fleet
        self._agents = agents
        self._enrolment = enrolment

    async def List(  # noqa: N802
        self, request: pb.ListAgentsRequest, context: Context
    ) -> pb.ListAgentsResponse:
        """See agent_admin_service.proto."""
        tenant = identity_of(context).tenant
        size = wire.page_size(request.page_size, 200, 1000)
        held = self._fleet.held(tenant)
        members = sorted(
            (
                member
                for member in self._fleet.members()
                if member.tenant == tenant and member.name > request.page_token
            ),
            key=lambda member: member.name,
        )
        more = members[size - 1].name if len(members) > size else ""
        return pb.ListAgentsResponse(
            agents=[_agent(member, held) for member in members[:size]],
            next_page_token=more,
            safe_mode=self._safe_mode(tenant),
        )

    async def Get(  # noqa: N802
        self, request: pb.GetAgentRequest, context: Context
    ) -> pb.GetAgentResponse:
        """See agent_admin_service.proto."""
        member = self._find(request.agent_id, context)
        return pb.GetAgentResponse(agent=_agent(member, self._fleet.held(member.tenant)))

    async def Drain(  # noqa: N802
        self, request: pb.DrainAgentRequest, context: Context
    ) -> pb.DrainAgentResponse:
        """See agent_admin_service.proto."""
        tenant = identity_of(context).tenant
        member = await self._agents.drain(request.agent_id, undo=request.undo, tenant=tenant)
        return pb.DrainAgentResponse(agent=_agent(member, self._fleet.held(tenant)))

    async def Release(  # noqa: N802
        self, request: pb.ReleaseAgentRequest, context: Context
    ) -> pb.ReleaseAgentResponse:
        """See agent_admin_service.proto."""
        tenant = identity_of(context).tenant
        member = await self._agents.release(request.agent_id, request.tool, tenant=tenant)
        return pb.ReleaseAgentResponse(agent=_agent(member, self._fleet.held(tenant)))

    async def Retire(  # noqa: N802
        self, request: pb.RetireAgentRequest, context: Context
    ) -> pb.RetireAgentResponse:
        """See agent_admin_service.proto."""
        caller = identity_of(context)
        member, unknown = await self._agents.retire(
            request.agent_id, caller.name, request.reason, tenant=caller.tenant
        )
        return pb.RetireAgentResponse(
            agent=_agent(member, self._fleet.held(caller.tenant)),
            unknown_steps=[
                pb.UnknownStep(execution_id=execution_id, step_id=step_id)
                for execution_id, step_id in unknown
            ],
        )

    async def ConfirmRestore(  # noqa: N802
        self, request: pb.ConfirmRestoreRequest, context: Context
    ) -> pb.ConfirmRestoreResponse:
        """See agent_admin_service.proto."""
        caller = identity_of(context)
        await self._agents.restoring.confirm(
            caller.name,
            caller.tenant,
            request.reason,
            request.without_agents,
            planned=request.planned,
        )
        return pb.ConfirmRestoreResponse(
            safe_mode=self._safe_mode(caller.tenant),
            incarnation=self._agents.restoring.incarnation,
        )

    async def CreateJoinToken(  # noqa: N802
        self, request: pb.CreateJoinTokenRequest, context: Context
    ) -> pb.CreateJoinTokenResponse:
        """See agent_admin_service.proto."""
        ttl = request.ttl.ToTimedelta() if request.HasField("ttl") else None
        tenant = identity_of(context).tenant
        text, expires = await self._enrolment.create_token(
            tenant, request.name, request.segment, ttl
        )
        return pb.CreateJoinTokenResponse(token_file=text, expire_time=wire.timestamp(expires))

    def _safe_mode(self, tenant: str) -> pb.SafeMode | None:
        restoring = self._agents.restoring
        mode = restoring.mode
        if mode is None:
            return None
        return pb.SafeMode(
            active=bool(self._fleet.held(tenant)),
            reason=restoring.why_awaited(tenant) if mode.confirmed else mode.reason,
            since_time=wire.timestamp(datetime.fromisoformat(mode.since)),
            confirmed=mode.confirmed,
            awaited_agents=list(restoring.awaited(tenant)),
            lost_attempts=restoring.lost(tenant),
        )

    def _find(self, name: str, context: Context) -> Member:
        member = self._fleet.get(name, identity_of(context).tenant)
        if member is None:
            raise NotFound(f"there is no agent {name}")
        return member


def _agent(member: Member, held: str) -> pb.Agent:
    return pb.Agent(
        agent_id=member.agent_id,
        name=member.name,
        segment=member.segment,
        state=pb.AgentState.Value(f"AGENT_STATE_{member.state.upper()}"),
        services=sorted(member.services),
        methods=sorted(member.methods),
        labels=member.labels,
        capacity=member.capacity,
        running=member.running,
        version=member.version,
        last_seen_time=wire.timestamp(member.last_seen),
        session_epoch=member.session_epoch,
        certificate_expire_time=wire.timestamp(member.certificate_expires),
        state_reason=member.quarantined or held,
        quarantined_tools=member.kept_tools,
        clock_skew=wire.duration(member.clock_skew),
    )
