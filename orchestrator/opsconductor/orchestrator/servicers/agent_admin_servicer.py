"""AgentAdminService. See agent_admin_service.proto."""

from __future__ import annotations

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
            agents=[_agent(member) for member in members[:size]], next_page_token=more
        )

    async def Get(  # noqa: N802
        self, request: pb.GetAgentRequest, context: Context
    ) -> pb.GetAgentResponse:
        """See agent_admin_service.proto."""
        return pb.GetAgentResponse(agent=_agent(self._find(request.agent_id, context)))

    async def Drain(  # noqa: N802
        self, request: pb.DrainAgentRequest, context: Context
    ) -> pb.DrainAgentResponse:
        """See agent_admin_service.proto."""
        member = self._find(request.agent_id, context)
        member = await self._agents.drain(member.agent_id, undo=request.undo)
        return pb.DrainAgentResponse(agent=_agent(member))

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

    def _find(self, name: str, context: Context) -> Member:
        member = self._fleet.get(name)
        if member is None or member.tenant != identity_of(context).tenant:
            raise NotFound(f"there is no agent {name}")
        return member


def _agent(member: Member) -> pb.Agent:
    return pb.Agent(
        agent_id=member.agent_id,
        name=member.name,
        segment=member.segment,
        state=pb.AgentState.Value(f"AGENT_STATE_{member.state.upper()}"),
        services=sorted(member.services),
        methods=sorted(member.methods),
        labels=member.labels,
        capacity=member.capacity,
        running=len(member.attempts),
        version=member.version,
        last_seen_time=wire.timestamp(member.last_seen),
        session_epoch=member.session_epoch,
        certificate_expire_time=wire.timestamp(member.certificate_expires),
    )
