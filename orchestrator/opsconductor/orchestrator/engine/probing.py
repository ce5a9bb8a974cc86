"""Probing: a look at what became of a step whose outcome is unknown, before a person decides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.plans.probe import moved, probe_plan, ran_on_agent_host
from opsconductor.orchestrator.domain.plans.targets import resolve_target
from opsconductor.rpc.errors import NoAgent, NoProbe, OpsConductorError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.engine.planning import Planner
    from opsconductor.orchestrator.engine.submission import Accepted, Submission, Submissions


class Probing:
    """Starts runs that read what an unknown step did; they decide nothing."""

    def __init__(self, planner: Planner, submissions: Submissions) -> None:
        self._planner = planner
        self._submissions = submissions

    async def probe(self, state: Execution, step_id: str, asked: Submission) -> Accepted:
        """Starts the probe of a step as a run of its own.

        Args:
            state: The execution.
            step_id: The step.
            asked: Who asks; its plan is filled in here.

        Raises:
            NotFound: The execution has no such step.
            InvalidTransition: Its outcome is not unknown.
            NoProbe: Its tool declares no probe, or one that does not only read, or its target is
                another one by now.
            UnknownTool: A tool it needs is not there any more.
            NoAgent: Only an agent that will not answer could tell.
            PlanInvalid, QueueFull, RequestIdReused, StoreUnavailable: See Submissions.submit.
        """
        asked = replace(asked, asked=f"probe of {step_id} in {state.execution_id}")
        try:
            document = await self._document(state, step_id)
        except OpsConductorError:
            # What was started once is still there, whatever was decided or changed since.
            if earlier := await self._submissions.earlier(asked):
                return earlier
            raise
        return await self._submissions.submit(replace(asked, source=document))

    async def _document(self, state: Execution, step_id: str) -> dict[str, Any]:
        """Returns the plan that looks."""
        record = commands.unknown_step(state, step_id)
        body = state.compiled_step(step_id).body
        tool = self._planner.registry.get(body["tool"])
        if tool.probe is None:
            raise NoProbe(
                f"{tool.name} declares no probe: look at the target yourself, then `opsctl runs "
                f"resolve {state.execution_id} {step_id}`"
            )
        reader = self._planner.registry.get(tool.probe.tool)
        if not reader.annotations.read_only:
            raise NoProbe(f"{reader.name}, the probe of {tool.name}, does more than read")
        await self._require_same_target(state.tenant, body["target"])
        agent_id = state.attempts[record.attempt_ids[-1]].agent_id
        name = self._agent_name(agent_id) if ran_on_agent_host(body) else ""
        inputs = {**body["inputs"], **(record.late_inputs or {})}
        document = probe_plan(tool.probe, tool, reader, body, inputs, name)
        document["name"] = f"probe of {step_id} in {state.execution_id}"
        context = state.compiled.context
        if "environment" in context:
            document["context"] = {"environment": context["environment"]}
        return document

    async def _require_same_target(self, tenant: str, before: Mapping[str, Any] | None) -> None:
        """Refuses to ask another host than the one the step acted on."""
        if before is None:
            return
        assets = await self._planner.assets(tenant)
        where = await self._planner.segments_map(tenant)
        if changes := moved(before, resolve_target(before["name"], assets, where)):
            raise NoProbe(
                f"{before['name']} is not what it was when the step ran ({changes}): look yourself"
            )

    def _agent_name(self, agent_id: str) -> str:
        member = self._planner.fleet.get(agent_id)
        if member is None:
            raise NoAgent(f"agent {agent_id}, on whose own host the step ran, is not known")
        if member.quarantined:
            raise NoAgent(
                f"agent {member.name}, on whose own host the step ran, is kept out: "
                f"{member.quarantined}"
            )
        return member.name
