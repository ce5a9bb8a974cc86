"""Planning: reads, checks and compiles plans against today's tools, assets, agents and policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions.place import demand_of, missing
from opsconductor.orchestrator.domain.plans.check import check_plan
from opsconductor.orchestrator.domain.plans.compile import compile_plan
from opsconductor.orchestrator.domain.plans.segments import SegmentsMap
from opsconductor.rpc import canonical, ids
from opsconductor.rpc.errors import Fault, NoAgent, PlanInvalid
from opsconductor.tool_registry.documents import yaml_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan, CompiledStep
    from opsconductor.orchestrator.domain.plans.policy import Policy
    from opsconductor.orchestrator.engine.fleet import Fleet
    from opsconductor.orchestrator.store.store import Store
    from opsconductor.tool_registry.registry import Registry

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Judged:
    """A plan document and what became of it."""

    document: Any
    compiled: CompiledPlan
    warnings: tuple[Fault, ...]


class Planner:
    """Turns plan documents into compiled plans."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        policy: Policy,
        fleet: Fleet,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._registry = registry
        self._policy = policy
        self._fleet = fleet
        self._clock = clock
        self._assets: dict[str, dict[str, Any]] = {}

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

    @property
    def fleet(self) -> Fleet:
        """The agents."""
        return self._fleet

    @property
    def registry(self) -> Registry:
        """The tools."""
        return self._registry

    async def check(self, source: bytes | Any, tenant: str) -> tuple[tuple[Fault, ...], ...]:
        """Returns (faults, warnings) of a plan, given as text or as JSON values."""
        document, lines, unreadable = _read(source)
        if document is None:
            return unreadable, ()
        checked = check_plan(
            document,
            lines,
            self._registry,
            await self.assets(tenant),
            self._segments(tenant),
            self._policy,
            await self.segments_map(tenant),
        )
        return (*unreadable, *checked.faults), checked.warnings

    async def judge(
        self, source: bytes | Any, tenant: str, *, plan_id: str = "", revision: int = 1
    ) -> Judged:
        """Checks and compiles a plan.

        Args:
            source: Text (YAML or JSON) or JSON values.
            tenant: Whose assets and agents count.
            plan_id: Id to keep, for a revision; else the plan's own, else a minted one.
            revision: From 1.

        Raises:
            PlanInvalid: With every fault.
            PlanTooLarge: The plan exceeds a limit of the wire.
        """
        document, lines, unreadable = _read(source)
        if document is None:
            raise PlanInvalid("the plan could not be read", faults=unreadable)
        assets, where = await self.assets(tenant), await self.segments_map(tenant)
        checked = check_plan(
            document, lines, self._registry, assets, self._segments(tenant), self._policy, where
        )
        if unreadable or checked.plan is None:
            faults = (*unreadable, *checked.faults)
            text = f"the plan has {len(faults)} fault{'s' * (len(faults) != 1)}"
            raise PlanInvalid(text, faults=faults)
        kept = plan_id or checked.plan.plan_id or ids.mint("plan", self._clock())
        plan = replace(checked.plan, plan_id=kept)
        compiled = compile_plan(plan, self._registry, assets, self._policy, tenant, revision, where)
        return Judged(document, compiled, (*checked.warnings, *compiled.warnings))

    def route(self, step: CompiledStep, tenant: str) -> str:
        """Returns why no known agent could run a step; empty when one could."""
        return missing(demand_of(step.body), self._fleet.views(tenant))

    def require_agents(self, compiled: CompiledPlan, tenant: str) -> None:
        """Refuses a plan that no agent could run, before anyone is asked to approve it.

        Raises:
            NoAgent: With one fault per step that cannot be placed.
        """
        faults = [
            Fault(
                code="NO_AGENT",
                step=step.step_id,
                field="target",
                found=step.target_name or step.body["segment"] or "the agent's own host",
                expected="an agent that can reach it",
                hint=f"{why}; start an agent there: `opsctl agents token create`",
            )
            for step in (*compiled.steps, *compiled.rollback)
            if (why := self.route(step, tenant))
        ]
        if faults:
            count = len(faults)
            steps = "1 step" if count == 1 else f"{count} steps"
            raise NoAgent(f"no agent could run {steps} of the plan", faults=faults)

    async def assets(self, tenant: str) -> Mapping[str, Mapping[str, Any]]:
        """Returns the tenant's assets by name; read once until they change."""
        if tenant not in self._assets:
            rows = await self._store.assets(tenant)
            self._assets[tenant] = {row.name: canonical.loads(row.document) for row in rows}
        return self._assets[tenant]

    async def segments_map(self, tenant: str) -> SegmentsMap:
        """Returns where the tenant's addresses and names lie that are no assets."""
        return SegmentsMap.of((await self.assets(segments_of(tenant))).values())

    def forget_assets(self) -> None:
        """Forgets what was read of all tenants: another orchestrator may have changed it."""
        self._assets.clear()

    def assets_changed(self, tenant: str) -> None:
        """Forgets what was read of a tenant's assets and segments."""
        self._assets.pop(tenant, None)
        self._assets.pop(segments_of(tenant), None)

    def _segments(self, tenant: str) -> frozenset[str]:
        return frozenset(view.segment for view in self._fleet.views(tenant))


def segments_of(tenant: str) -> str:
    """Returns the name under which the store keeps a tenant's segments, beside its assets.

    No identity can carry it: the name of a tenant has no slash.
    """
    return f"{tenant}/segments"


def _read(source: bytes | Any) -> tuple[Any, Mapping[str, int] | None, tuple[Fault, ...]]:
    if not isinstance(source, bytes):
        return source, None, ()
    document, lines, faults = yaml_reader.load(source, max_bytes=MAX_DOCUMENT_BYTES)
    return document, lines, tuple(faults)
