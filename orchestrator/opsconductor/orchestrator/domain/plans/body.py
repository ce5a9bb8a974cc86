"""Step bodies: the canonical JSON an agent gets, and approvers sign for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.durations import parse_duration, to_ms
from opsconductor.orchestrator.domain.plans.plan import Retry
from opsconductor.tool_registry.rendering.template import RenderError, Scope, as_word, substitute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.orchestrator.domain.plans.bind import BoundCall
    from opsconductor.orchestrator.domain.plans.bound_step import BoundStep
    from opsconductor.orchestrator.domain.plans.plan import ApprovalAsk, GroupQuorum, Plan
    from opsconductor.orchestrator.domain.plans.risk import StepRisk
    from opsconductor.tool_registry.model import Tool

Json = dict[str, Any]


def step_body(bound: BoundStep, plan: Plan, needs: tuple[str, ...], risk: StepRisk) -> Json:
    """Returns the body of a step; texts for people only are left out."""
    step, call = bound.step, bound.call
    return {
        "v": 1,
        "step_id": step.id,
        **_what(call),
        "segment": str((call.target or {}).get("segment") or step.segment or plan.segment),
        "agent_labels": dict(step.agent_labels or plan.agent_labels),
        "late": sorted(call.late),
        "risk": risk.risk_class,
        "critical": risk.level == "critical",
        "idempotent": call.risk.idempotent,
        "irreversible": step.irreversible,
        "needs": list(needs),
        "if": step.condition,
        "timeout_ms": to_ms(step.timeout or call.tool.timeout),
        "retry": _retry(step.retry or tool_retry(call.tool)),
        "success": step.success,
        "precheck": _call(bound.precheck),
        "verify": _call(bound.verify),
        "undo": {
            "strategy": bound.undo.strategy,
            "manual": bound.undo.text if bound.undo.strategy == "manual" else "",
            "call": _call(bound.undo.call),
        },
        "approval": _approval(step.approval),
        "concurrency": _concurrency(bound),
        # Only where it is meant: agents that know no dry run refuse the key, and change nothing.
        **({"dry_run": True} if call.section == "dry_run" else {}),
    }


def tool_retry(tool: Tool) -> Retry:
    """Returns the retries a tool's definition gives; one attempt when it gives none."""
    given = tool.retry
    if not given:
        return Retry()
    backoff = given.get("backoff", "fixed" if "delay" in given else "exponential")
    return Retry(
        max_attempts=int(given.get("max_attempts", 1)),
        backoff=str(backoff),
        base=parse_duration(given.get("base", given.get("delay", "0s"))),
        increment=parse_duration(given.get("increment", "0s")),
        factor=float(given.get("factor", 2.0)),
        max=parse_duration(given.get("max", "0s")),
        jitter=bool(given.get("jitter", True)),
        on=tuple(given.get("on", ())),
    )


def _what(call: BoundCall) -> Json:
    return {
        "tool": call.tool.name,
        "tool_version": call.tool.version,
        "tool_digest": call.tool.digest,
        "location": call.tool.location,
        "method": call.tool.method,
        "inputs": dict(call.inputs),
        "target": None if call.target is None else dict(call.target),
    }


def _call(call: BoundCall | None) -> Json | None:
    if call is None:
        return None
    said = {**_what(call), "success": call.success, "risk": call.risk.risk_class}
    return {**said, "late": sorted(call.late)} if call.late else said


def _retry(retry: Retry) -> Json:
    return {
        "max_attempts": retry.max_attempts,
        "backoff": retry.backoff,
        "base_ms": to_ms(retry.base),
        "increment_ms": to_ms(retry.increment),
        "factor": retry.factor,
        "max_ms": to_ms(retry.max),
        "jitter": retry.jitter,
        "on": list(retry.on),
    }


def _approval(ask: ApprovalAsk | None) -> Json | None:
    if ask is None:
        return None
    return {
        "all_of": [_group(item) for item in ask.all_of],
        "any_of": [_group(item) for item in ask.any_of],
        "expires_ms": to_ms(ask.expires) if ask.expires else 0,
    }


def _group(item: GroupQuorum) -> Json:
    return {"group": item.group, "approve": item.approve}


def _concurrency(bound: BoundStep) -> Json | None:
    """Returns the lock the plan asks for, and those of the tool's definition beside it.

    A shared lock is held like an exclusive one: that is safe, and no tool needs more yet.
    """
    keys = [key for lock in bound.call.tool.locks if (key := _lock_key(lock, bound.call))]
    own = bound.step.concurrency
    if own is not None:
        held: Json = {"key": own.key, "max_runs": own.max_runs, "on_conflict": own.on_conflict}
    elif keys:
        held = {"key": keys[0], "max_runs": 1, "on_conflict": "queue"}
    else:
        return None
    also = [key for key in dict.fromkeys(keys) if key != held["key"]]
    return {**held, "also": also} if also else held


def _lock_key(lock: Mapping[str, str], call: BoundCall) -> str:
    """Returns a lock's name; empty when it names something this call does not have."""
    scope = Scope(call.inputs, call.target)
    try:
        key = substitute(lock["key"], scope, lambda _, value: as_word(value)) or ""
    except RenderError:
        return ""
    return "" if "${{" in key else key[:200]
