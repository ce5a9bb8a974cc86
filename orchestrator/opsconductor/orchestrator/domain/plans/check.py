"""The one way in: a document becomes a plan, or one answer with all that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.findings import Findings
from opsconductor.orchestrator.domain.plans.parse import read_plan
from opsconductor.orchestrator.domain.plans.segments import NO_SEGMENTS, SegmentsMap
from opsconductor.orchestrator.domain.plans.validate import Surroundings, judge_plan

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from opsconductor.orchestrator.domain.plans.plan import Plan
    from opsconductor.orchestrator.domain.plans.policy import Policy
    from opsconductor.rpc.errors import Fault
    from opsconductor.tool_registry.registry import Registry


@dataclass(frozen=True)
class CheckedPlan:
    """What became of a document."""

    plan: Plan | None
    """The plan; None when there is any fault."""
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]


def check_plan(
    document: object,
    lines: Mapping[str, int] | None,
    registry: Registry,
    assets: Mapping[str, Mapping[str, Any]],
    segments: Collection[str] = (),
    policy: Policy | None = None,
    segments_map: SegmentsMap = NO_SEGMENTS,
) -> CheckedPlan:
    """Reads and judges a document whole; mistakes of shape hide no others. Never raises.

    Args:
        document: The plan as JSON values.
        lines: Lines of paths in the document, for messages.
        registry: The tools.
        assets: Assets of the tenant by name.
        segments: Segments that have agents.
        policy: When given, its limits and groups are checked too.
        segments_map: Where addresses and names lie that are no assets.
    """
    findings = Findings(lines or {})
    plan = read_plan(document, findings)
    if plan is not None:
        judge_plan(plan, Surroundings(registry, assets, segments, policy, segments_map), findings)
    faults = findings.all_faults()
    return CheckedPlan(None if faults else plan, faults, tuple(findings.warnings))
