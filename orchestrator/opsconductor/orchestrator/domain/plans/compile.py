"""Compiles a checked plan: bodies, digests, manifest, risk, approval level, gates and estimates."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.bind import Binder
from opsconductor.orchestrator.domain.plans.body import step_body
from opsconductor.orchestrator.domain.plans.bound_step import BoundStep, bind_rollback, bind_step
from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan, CompiledStep
from opsconductor.orchestrator.domain.plans.durations import format_duration, to_ms
from opsconductor.orchestrator.domain.plans.estimate import longest_path, run_mode
from opsconductor.orchestrator.domain.plans.findings import Findings
from opsconductor.orchestrator.domain.plans.gating import plan_gates
from opsconductor.orchestrator.domain.plans.graph import build_graph
from opsconductor.orchestrator.domain.plans.policy import PlanFacts
from opsconductor.orchestrator.domain.plans.references import Reach
from opsconductor.orchestrator.domain.plans.rendering import command_text
from opsconductor.orchestrator.domain.plans.risk import (
    LEVELS,
    StepRisk,
    is_production_change,
    plan_risk,
)
from opsconductor.orchestrator.domain.plans.segments import NO_SEGMENTS, SegmentsMap
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import PlanInvalid, PlanTooLarge
from opsconductor.tool_registry.estimate import estimate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opsconductor.orchestrator.domain.plans.graph import Graph
    from opsconductor.orchestrator.domain.plans.plan import ApprovalAsk, GroupQuorum, Plan
    from opsconductor.orchestrator.domain.plans.policy import Policy
    from opsconductor.tool_registry.registry import Registry

MAX_BODY_BYTES = 256 * 1024
MAX_MANIFEST_BYTES = 448 * 1024
"""Manifest and one body travel to an agent together."""


def compile_plan(
    plan: Plan,
    registry: Registry,
    assets: Mapping[str, Mapping[str, Any]],
    policy: Policy,
    tenant: str,
    revision: int = 1,
    segments_map: SegmentsMap = NO_SEGMENTS,
) -> CompiledPlan:
    """Returns a plan ready to be approved and run.

    Raises:
        PlanInvalid: The plan has faults; ``check_plan`` tells them before.
        PlanTooLarge: A body or the manifest exceeds what is sent to an agent.
    """
    findings = Findings()
    graph = build_graph(plan, findings)
    binder = Binder(plan, registry, assets, findings, segments_map)
    steps = [bind_step(binder, step, Reach(graph, step.id)) for step in plan.steps]
    rollback = [
        bind_rollback(binder, call, f"rollback-{number}")
        for number, call in enumerate(plan.rollback, start=1)
    ]
    if findings.faults:
        raise PlanInvalid(faults=findings.all_faults())
    bound = [step for step in steps if step is not None]
    undoing = [step for step in rollback if step is not None]
    return _assemble(plan, graph, bound, undoing, policy, tenant, revision, findings)


def _assemble(
    plan: Plan,
    graph: Graph,
    bound: Sequence[BoundStep],
    undoing: Sequence[BoundStep],
    policy: Policy,
    tenant: str,
    revision: int,
    findings: Findings,
) -> CompiledPlan:
    steps = tuple(_compile_step(step, plan, graph.needs[step.step.id]) for step in bound)
    rollback = tuple(_compile_step(step, plan, ()) for step in undoing)
    risk = plan_risk({step.step_id: step.risk for step in (*steps, *rollback)}, plan.risk)
    level = policy.level_for(_facts((*bound, *undoing), risk))
    asks = {step.step.id: step.step.approval for step in bound if step.step.approval}
    gates = plan_gates(
        level,
        policy,
        {step.step_id: step.changes for step in steps},
        {step.step_id: step.changes for step in rollback},
        asks,
    )
    manifest = _manifest(plan, steps, rollback, policy, tenant, revision)
    total = longest_path(graph.needs, {step.step_id: step.estimate for step in steps})
    _warn_of_low_claim(plan, (*steps, *rollback), findings)
    return CompiledPlan(
        steps=steps,
        rollback=rollback,
        manifest_bytes=manifest,
        plan_digest=canonical.digest(canonical.MANIFEST_DOMAIN, manifest),
        level=level,
        risk=risk,
        gates=gates,
        run=run_mode(
            plan.run,
            estimate=total,
            waits=gates.any,
            heavy=any(step.call.tool.annotations.resource_heavy for step in bound),
            steps=len(steps),
        ),
        estimate=total,
        name=plan.name,
        priority=plan.priority,
        inputs=plan.inputs,
        context=plan.context,
        warnings=tuple(findings.warnings),
    )


def _compile_step(bound: BoundStep, plan: Plan, needs: tuple[str, ...]) -> CompiledStep:
    risk = bound.risk
    body = canonical.dumps(step_body(bound, plan, needs, risk))
    if len(body) > MAX_BODY_BYTES:
        raise PlanTooLarge(
            f"Step {bound.step.id} is {len(body)} bytes; at most {MAX_BODY_BYTES} can be sent."
        )
    return CompiledStep(
        step_id=bound.step.id,
        body_bytes=body,
        digest=canonical.digest(canonical.STEP_DOMAIN, body),
        risk=risk,
        estimate=_estimate(bound),
        command=command_text(bound.call),
        undo_lines=bound.undo.lines(bound.call.tool.name),
        late=bound.call.late,
        approval=_approval_words(bound.step.approval),
        description=bound.step.description,
    )


def _estimate(bound: BoundStep) -> timedelta | None:
    """Returns the expected time of one attempt, with its checks as far as theirs is known."""
    own = estimate(bound.call.tool, bound.call.inputs)
    if own is None:
        return None
    checks = [call for call in (bound.precheck, bound.verify) if call is not None]
    return sum((estimate(call.tool, call.inputs) or timedelta() for call in checks), own)


def _facts(bound: Sequence[BoundStep], risk: StepRisk) -> PlanFacts:
    return PlanFacts(
        risk_class=risk.risk_class,
        risk_level=risk.level,
        points=sum(1 for step in bound if step.step.approval),
        production_change=any(
            is_production_change(step.risk.risk_class, step.environment) for step in bound
        ),
        irreversible=any(step.step.irreversible and step.risk.changes for step in bound),
        tools=frozenset(step.call.tool.name for step in bound),
    )


def _manifest(
    plan: Plan,
    steps: Iterable[CompiledStep],
    rollback: Iterable[CompiledStep],
    policy: Policy,
    tenant: str,
    revision: int,
) -> bytes:
    manifest = canonical.dumps(
        {
            "v": 1,
            "tenant": tenant,
            "plan_id": plan.plan_id,
            "revision": revision,
            "mode": plan.mode,
            "on_failure": plan.on_failure,
            "timeout_ms": to_ms(plan.timeout) if plan.timeout else 0,
            "environment": plan.environment,
            # Conditions read inputs when their step comes up. Only a digest: a manifest goes to
            # agents of every segment.
            "inputs": canonical.digest(canonical.INPUTS_DOMAIN, canonical.dumps(dict(plan.inputs))),
            "policy": {"name": policy.name, "version": policy.version},
            "steps": [{**_entry(step), "needs": list(step.needs)} for step in steps],
            "rollback": [_entry(step) for step in rollback],
        }
    )
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise PlanTooLarge(
            f"The plan's manifest is {len(manifest)} bytes; at most {MAX_MANIFEST_BYTES} can be "
            "sent. Use fewer steps, shorter ids or fewer needs."
        )
    return manifest


def _entry(step: CompiledStep) -> dict[str, str]:
    return {"id": step.step_id, "digest": step.digest, "risk": step.risk.risk_class}


def _warn_of_low_claim(plan: Plan, steps: Iterable[CompiledStep], findings: Findings) -> None:
    computed = max((LEVELS.index(step.risk.level) for step in steps), default=0)
    if plan.risk and LEVELS.index(plan.risk) < computed:
        findings.warn(
            "RISK_CLAIM_TOO_LOW",
            "risk",
            found=plan.risk,
            expected=LEVELS[computed],
            hint="the computed risk counts; a claim can only raise it",
        )


def _approval_words(ask: ApprovalAsk | None) -> str:
    if ask is None:
        return ""
    every = " and ".join(_group_words(item) for item in ask.all_of)
    either = " or ".join(_group_words(item) for item in ask.any_of)
    words = " and ".join(part for part in (every, either and f"either {either}") if part)
    words = words or "its own approval"
    return f"{words}, within {format_duration(ask.expires)}" if ask.expires else words


def _group_words(item: GroupQuorum) -> str:
    return f"{item.approve} of group {item.group}"
