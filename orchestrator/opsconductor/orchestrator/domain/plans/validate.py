"""Judges the steps of a plan beyond their shape: order, tools, inputs, retries, placement."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.bind import Binder
from opsconductor.orchestrator.domain.plans.bound_step import BoundStep, bind_rollback, bind_step
from opsconductor.orchestrator.domain.plans.findings import Findings, did_you_mean
from opsconductor.orchestrator.domain.plans.graph import Graph, build_graph
from opsconductor.orchestrator.domain.plans.references import Reach, check_condition
from opsconductor.orchestrator.domain.plans.risk import READ_ONLY
from opsconductor.orchestrator.domain.plans.segments import NO_SEGMENTS, SegmentsMap
from opsconductor.tool_registry.inputs import is_constrained

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from opsconductor.orchestrator.domain.plans.plan import GroupQuorum, Plan, Step
    from opsconductor.orchestrator.domain.plans.policy import Policy
    from opsconductor.tool_registry.registry import Registry

NO_EFFECT_CLASSES = frozenset({"unreachable", "throttled"})
"""Error classes that guarantee that nothing was changed."""

ERROR_CLASSES = (
    "unreachable",
    "throttled",
    "failed",
    "timed_out",
    "timeout",
    "retryable",
    "non_retryable",
    "rollback_required",
    "unknown",
)

_ROLLBACK_ID = re.compile(r"rollback-\d+")


@dataclass(frozen=True)
class Surroundings:
    """What a plan is judged against."""

    registry: Registry
    assets: Mapping[str, Mapping[str, Any]]
    segments: Collection[str] = ()
    """Segments that have agents."""
    policy: Policy | None = None
    """Checks groups and size when given."""
    segments_map: SegmentsMap = NO_SEGMENTS
    """Where addresses and names lie that are no assets."""


def judge_plan(plan: Plan, around: Surroundings, findings: Findings) -> None:
    """Records every fault and warning of a plan."""
    graph = build_graph(plan, findings)
    binder = Binder(plan, around.registry, around.assets, findings, around.segments_map)
    for step in plan.steps:
        _judge_step(step, graph, binder, around)
    for number, call in enumerate(plan.rollback, start=1):
        undoing = bind_rollback(binder, call, f"rollback-{number}")
        if undoing is not None:
            _check_bare_target(undoing, plan, f"{call.path}.target", around, findings)
    _check_segment(plan.segment, "segment", "", around, findings)
    if around.policy and len(plan.steps) > around.policy.max_steps:
        findings.fault(
            "PLAN_TOO_LARGE",
            "steps",
            found=f"{len(plan.steps)} steps",
            expected=f"<= {around.policy.max_steps}, as policy {around.policy.name} says",
        )


def _judge_step(step: Step, graph: Graph, binder: Binder, around: Surroundings) -> None:
    findings = binder.findings
    reach = Reach(graph, step.id)
    if _ROLLBACK_ID.fullmatch(step.id) and binder.plan.rollback:
        hint = "plan-level rollback calls have this name"
        findings.fault(
            "BAD_ID", f"{step.path}.id", step=step.id, found=step.id, expected="", hint=hint
        )
    if step.condition:
        check_condition(step.condition, f"{step.path}.if", reach, findings)
    _check_segment(step.segment, f"{step.path}.segment", step.id, around, findings)
    _check_groups(step, around, findings)
    _warn_of_retry_words(step, findings)
    bound = bind_step(binder, step, reach)
    _check_retry(step, bound, binder)
    if bound is not None:
        _check_late(bound, findings)
        _check_placement(bound, binder.plan, around, findings)


def _check_retry(step: Step, bound: BoundStep | None, binder: Binder) -> None:
    """Refuses to repeat what may have taken effect and may not take effect twice."""
    retry = step.retry
    tool = bound.call.tool if bound else binder.registry.find(step.tool)
    if retry is None or retry.max_attempts <= 1 or tool is None:
        return
    if bound is not None:
        repeatable = bound.call.risk.idempotent
    else:
        repeatable = tool.annotations.read_only or tool.annotations.idempotent
    if repeatable or (retry.on and set(retry.on) <= NO_EFFECT_CLASSES):
        return
    binder.findings.fault(
        "RETRY_NOT_ALLOWED",
        f"{step.path}.retry.max_attempts",
        step=step.id,
        found=str(retry.max_attempts),
        expected="1: the step is not idempotent",
        hint="or retry on: [unreachable, throttled] only, where nothing has happened yet",
    )


def _warn_of_retry_words(step: Step, findings: Findings) -> None:
    for index, word in enumerate(step.retry.on if step.retry else ()):
        hint = did_you_mean(word, ERROR_CLASSES)
        if word not in ERROR_CLASSES and word.islower() and word.isidentifier() and hint:
            findings.warn(
                "UNKNOWN_CLASS",
                f"{step.path}.retry.on[{index}]",
                step=step.id,
                found=f"{word}, which is no error class and is taken as a pattern",
                hint=hint,
            )


def _check_late(bound: BoundStep, findings: Findings) -> None:
    """Refuses late values of a change where the approver would sign for any value at all."""
    if bound.risk.risk_class == READ_ONLY:
        return
    for name in bound.call.late:
        if not is_constrained(bound.call.tool.properties.get(name, {})):
            findings.fault(
                "LATE_BOUND_UNCONSTRAINED",
                f"{bound.step.path}.inputs.{name}",
                step=bound.step.id,
                found=f"{name} takes any text, and this step changes something",
                expected="a parameter limited by enum, pattern, format or to a number",
            )


def _check_placement(
    bound: BoundStep, plan: Plan, around: Surroundings, findings: Findings
) -> None:
    step, target = bound.step, bound.call.target
    own = str((target or {}).get("segment") or "")
    if own and step.segment and own != step.segment:
        findings.fault(
            "SEGMENT_CONFLICT",
            f"{step.path}.segment",
            step=step.id,
            found=step.segment,
            expected=f"{own}, where {bound.call.target_name} is",
        )
    placed = own or step.segment or plan.segment or step.agent_labels or plan.agent_labels
    if target is None and not placed and bound.call.tool.runs_on_agent_host:
        _require_one_segment(step, around, findings)
    _check_bare_target(bound, plan, f"{step.path}.target", around, findings)


def _check_bare_target(
    bound: BoundStep, plan: Plan, path: str, around: Surroundings, findings: Findings
) -> None:
    """Refuses an address or name that may lie in any of several segments."""
    step, target = bound.step, bound.call.target
    placed = step.segment or plan.segment or step.agent_labels or plan.agent_labels
    segments = sorted(set(around.segments))
    if target is None or target["segment"] or placed or len(segments) < 2:
        return
    if target["name"] in around.assets:
        return
    findings.fault(
        "SEGMENT_UNKNOWN",
        path,
        step=step.id,
        found=f"{target['name']}, which is no asset and lies in no segment of the map "
        f"({around.segments_map}); agents are in segments {', '.join(segments)}",
        expected="a target whose segment is known",
        hint=f"add segment: {segments[0]} to the step, or tell where it lies with "
        "`opsctl assets import`: segments: [{name: "
        f"{segments[0]}, cidrs: [10.0.0.0/24], dns: [example.com]}}]",
    )


def _require_one_segment(step: Step, around: Surroundings, findings: Findings) -> None:
    segments = sorted(set(around.segments))
    if len(segments) > 1:
        findings.fault(
            "PLACEMENT_AMBIGUOUS",
            step.path,
            step=step.id,
            found="no target, and agents in segments " + ", ".join(segments),
            expected="a segment, a target or agent labels",
            hint=f"add segment: {segments[0]}",
        )


def _check_segment(
    segment: str, path: str, step_id: str, around: Surroundings, findings: Findings
) -> None:
    if segment and around.segments and segment not in around.segments:
        findings.warn(
            "UNKNOWN_SEGMENT",
            path,
            step=step_id,
            found=f"{segment}, where no agent is known",
            hint=did_you_mean(segment, around.segments),
        )


def _check_groups(step: Step, around: Surroundings, findings: Findings) -> None:
    """Refuses approvals nobody could give."""
    policy, ask = around.policy, step.approval
    if policy is None or ask is None or policy.operator_stands_for_groups:
        return
    for kind in ("all_of", "any_of"):
        shares: tuple[GroupQuorum, ...] = getattr(ask, kind)
        for index, share in enumerate(shares):
            members = policy.groups.get(share.group)
            if members is not None and len(set(members)) >= share.approve:
                continue
            found = share.group if members is None else f"{share.approve} of {len(set(members))}"
            findings.fault(
                "UNKNOWN_GROUP" if members is None else "GROUP_TOO_SMALL",
                f"{step.path}.approval.{kind}[{index}]",
                step=step.id,
                found=found,
                expected=f"a group of policy {policy.name} that has enough people",
                hint=did_you_mean(share.group, policy.groups) if members is None else "",
            )
