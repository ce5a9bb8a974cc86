"""Risk: how dangerous a step and a plan are, and why; computed, never taken on trust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opsconductor.tool_registry.risk.assess import CallRisk

READ_ONLY = "read_only"
MODIFY = "modify"
DESTRUCTIVE = "destructive"
CLASSES = (READ_ONLY, MODIFY, DESTRUCTIVE)

LEVELS = ("low", "medium", "high", "critical")
_LEVEL_OF = {READ_ONLY: "low", MODIFY: "medium", DESTRUCTIVE: "high"}

PRODUCTION = frozenset({"production", "prod", "live"})
SHOWN_REASONS = 50


@dataclass(frozen=True)
class StepRisk:
    """The computed risk of a step or plan."""

    risk_class: str
    """``read_only``, ``modify`` or ``destructive``."""
    level: str
    """``low``, ``medium``, ``high`` or ``critical``."""
    reasons: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Whether anything may differ afterwards."""
        return self.risk_class != READ_ONLY

    def to_json(self) -> dict[str, Any]:
        """Returns the risk as JSON."""
        return {"class": self.risk_class, "level": self.level, "reasons": list(self.reasons)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StepRisk:
        """Reads what ``to_json`` wrote."""
        return cls(data["class"], data["level"], tuple(data["reasons"]))


def worst_class(classes: Iterable[str]) -> str:
    """Returns the most dangerous class; read_only when there is none."""
    return max(classes, key=CLASSES.index, default=READ_ONLY)


def worst_level(levels: Iterable[str]) -> str:
    """Returns the most severe level; low when there is none."""
    return max(levels, key=LEVELS.index, default="low")


def step_risk(
    call: CallRisk,
    *,
    undo: CallRisk | None,
    undo_strategy: str,
    irreversible: bool,
    environment: str,
) -> StepRisk:
    """Returns the risk of a step from its own call, its undo, its reversibility and environment."""
    reasons = list(call.reasons)
    risk_class: str = call.risk_class
    if undo is not None and CLASSES.index(undo.risk_class) > CLASSES.index(risk_class):
        risk_class = undo.risk_class
        reasons.append(f"its undo is {undo.risk_class}: " + "; ".join(undo.reasons))
    level = _LEVEL_OF[risk_class]
    if risk_class != READ_ONLY:
        if irreversible:
            level = "critical"
            reasons.append("it is marked irreversible: a point of no return")
        elif undo_strategy == "none":
            reasons.append("nothing would take it back")
    if call.security_relevant:
        level = "critical"
    elif undo is not None and undo.security_relevant:
        level = "critical"
        reasons.append("its undo touches identities, firewalls or credentials")
    if is_production_change(risk_class, environment):
        reasons.append(
            f"the environment is {environment}"
            if environment
            else "no environment is known, so it counts as production"
        )
    return StepRisk(risk_class, level, tuple(reasons))


def is_production_change(risk_class: str, environment: str) -> bool:
    """Tells whether a step changes production; an unknown environment counts when it destroys."""
    if risk_class == READ_ONLY:
        return False
    if not environment:
        return risk_class == DESTRUCTIVE
    return environment.lower() in PRODUCTION


def plan_risk(steps: Mapping[str, StepRisk], claim: str) -> StepRisk:
    """Returns the risk of a plan: the worst of its steps; the author's claim can only raise it."""
    risk_class = worst_class(risk.risk_class for risk in steps.values())
    computed = worst_level(risk.level for risk in steps.values())
    level = worst_level((computed, claim or "low"))
    reasons = [
        f"{step_id}: {reason}"
        for step_id, risk in steps.items()
        if risk.level == computed
        for reason in risk.reasons
    ]
    if len(reasons) > SHOWN_REASONS:
        reasons = [*reasons[:SHOWN_REASONS], f"and {len(reasons) - SHOWN_REASONS} more"]
    if level != computed:
        reasons.append(f"the plan's author claims {level}; computed was {computed}")
    return StepRisk(risk_class, level, tuple(reasons))
