"""The risk of one call: from the tool's annotations, its rules and, for free commands, by parsing.

Rules raise, never lower. What is not known yet counts as the worst it could be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.tool_registry.rendering.template import Scope, holds
from opsconductor.tool_registry.risk.structured import judge_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.tool_registry.model import RiskClass, Tool

ORDER: Mapping[str, int] = {"read_only": 0, "modify": 1, "destructive": 2}
"""Risk classes from harmless to worst."""


@dataclass(frozen=True, slots=True)
class CallRisk:
    """What a call may do, and why that is thought."""

    risk_class: RiskClass
    idempotent: bool
    """Whether repeating it after a success changes nothing more."""
    security_relevant: bool
    reasons: tuple[str, ...]


def assess(tool: Tool, inputs: Mapping[str, Any]) -> CallRisk:
    """Returns the risk of a call with these inputs; unresolved ``${{ }}`` count as the worst."""
    risk, reasons, idempotent = _base(tool, inputs)
    for rule in tool.risk_rules:
        if ORDER[rule["risk"]] > ORDER[risk] and _applies(rule["when"], inputs):
            risk = rule["risk"]
            reasons.append(rule["reason"])
    changing = risk != "read_only"
    if changing and tool.annotations.security_relevant:
        reasons.append(f"{tool.name} changes identities, firewalls or credentials")
    return CallRisk(
        risk_class=risk,
        idempotent=idempotent,
        security_relevant=changing and tool.annotations.security_relevant,
        reasons=tuple(reasons),
    )


def worst_call(tool: Tool) -> CallRisk:
    """Returns the risk of the worst call of a tool, whatever its inputs."""
    if tool.risk_from is not None:
        reason = f"{tool.name} runs what its caller writes"
        return CallRisk("destructive", idempotent=False, security_relevant=True, reasons=(reason,))
    risk, reasons, idempotent = _base(tool, {})
    for rule in tool.risk_rules:
        if ORDER[rule["risk"]] > ORDER[risk]:
            risk, reasons = rule["risk"], [rule["reason"]]
    relevant = risk != "read_only" and tool.annotations.security_relevant
    return CallRisk(risk, idempotent, relevant, tuple(reasons))


def _base(tool: Tool, inputs: Mapping[str, Any]) -> tuple[RiskClass, list[str], bool]:
    if tool.risk_from is not None:
        judged = judge_from(tool.risk_from, inputs)
        return judged.risk_class, [judged.reason], judged.risk_class == "read_only"
    annotations = tool.annotations
    if annotations.read_only:
        return "read_only", [f"{tool.name} only reads"], True
    if annotations.destructive:
        reason = f"{tool.name} can destroy or replace what it acts on"
        return "destructive", [reason], annotations.idempotent
    return "modify", [f"{tool.name} changes its target"], annotations.idempotent


def _applies(condition: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    value = inputs.get(condition["param"])
    if isinstance(value, str) and "${{" in value:
        return True
    if isinstance(value, list):
        return any(holds(condition, Scope({condition["param"]: item})) for item in value)
    return holds(condition, Scope(inputs))
