"""Which approval requests a plan opens, by its level and the approvals its author asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.plans.approval import Gate, Gates, GroupShare, Requirement
from opsconductor.orchestrator.domain.plans.durations import to_ms
from opsconductor.orchestrator.domain.plans.policy import HIGHEST_LEVEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opsconductor.orchestrator.domain.plans.plan import ApprovalAsk, GroupQuorum
    from opsconductor.orchestrator.domain.plans.policy import ApprovalLevel, Policy


def plan_gates(
    level: ApprovalLevel,
    policy: Policy,
    steps: Mapping[str, bool],
    rollback: Mapping[str, bool],
    asks: Mapping[str, ApprovalAsk],
) -> Gates:
    """Returns the gates of a plan.

    Args:
        level: The approval level of the plan.
        policy: The policy that set it.
        steps: Whether each step changes something, by id, in plan order.
        rollback: The same of the plan-level rollback calls.
        asks: The approvals the plan's author asks for, by step.
    """
    changing = [step_id for step_id, changes in steps.items() if changes]
    undoing = [step_id for step_id, changes in rollback.items() if changes]
    if level.level < HIGHEST_LEVEL:
        covered = (*changing, *undoing) or tuple(steps)
        plan = _gate("", covered, level, policy, None) if level.level else None
        return Gates(plan, _step_gates(asks, (), level, policy, asks))
    gated = [step_id for step_id in steps if steps[step_id] or step_id in asks] or list(steps)
    return Gates(None, _step_gates(gated, undoing, level, policy, asks))


def _step_gates(
    step_ids: Iterable[str],
    undoing: Sequence[str],
    level: ApprovalLevel,
    policy: Policy,
    asks: Mapping[str, ApprovalAsk],
) -> dict[str, Gate]:
    """Returns a gate per step; each covers the rollback calls no plan-wide approval would cover."""
    return {
        step_id: _gate(step_id, (step_id, *undoing), level, policy, asks.get(step_id))
        for step_id in step_ids
    }


def _gate(
    step_id: str,
    covers: Sequence[str],
    level: ApprovalLevel,
    policy: Policy,
    ask: ApprovalAsk | None,
) -> Gate:
    # A level 0 plan whose author asks for approval is at least confirmed by somebody.
    asked = max(level.level, 1)
    reasons = level.reasons if ask is None else (*level.reasons, "the plan asks for this approval")
    return Gate(step_id, asked, tuple(covers), requirement(asked, policy, ask), tuple(reasons))


def requirement(level: int, policy: Policy, ask: ApprovalAsk | None) -> Requirement:
    """Returns who must agree at a level, with what a plan's author adds."""
    expires = (ask.expires if ask else None) or policy.expires
    return Requirement(
        level=level,
        people=policy.people_at(level),
        all_of=_shares(ask.all_of, policy) if ask else (),
        any_of=_shares(ask.any_of, policy) if ask else (),
        requester_may_approve=level in policy.requester_may_approve,
        operator_stands_for_groups=policy.operator_stands_for_groups,
        expires_ms=to_ms(expires) if expires else 0,
    )


def _shares(groups: Sequence[GroupQuorum], policy: Policy) -> tuple[GroupShare, ...]:
    return tuple(
        GroupShare(item.group, item.approve, policy.groups.get(item.group, ())) for item in groups
    )
