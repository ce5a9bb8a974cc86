"""Policy: which plans need whose approval, as data, with a floor no policy can lower."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.plan import MAX_STEPS
from opsconductor.orchestrator.domain.plans.risk import DESTRUCTIVE

if TYPE_CHECKING:
    from collections.abc import Mapping

HIGHEST_LEVEL = 3
FLOOR_RULE = "hard-floor"


@dataclass(frozen=True)
class PlanFacts:
    """What rules look at."""

    risk_class: str
    risk_level: str
    points: int
    """Approval points: steps with an ``approval:`` of their own."""
    production_change: bool
    irreversible: bool
    tools: frozenset[str] = frozenset()
    """The tools it uses."""


@dataclass(frozen=True)
class Rule:
    """One line of a policy; all its conditions must hold."""

    name: str
    level: int
    """0 run at once, 1 confirmation, 2 plan review, 3 step by step."""
    risk: tuple[str, ...] = ()
    """Levels it is about; empty means all."""
    points: int = 0
    """Holds from this many approval points on."""
    production: bool = False
    """Holds for changes of production only."""
    irreversible: bool = False
    """Holds for irreversible plans only."""
    tools: tuple[str, ...] = ()
    """Holds for plans that use one of these tools; empty means all plans."""

    def holds(self, facts: PlanFacts) -> bool:
        """Tells whether the rule is about such a plan."""
        return (
            (not self.risk or facts.risk_level in self.risk)
            and facts.points >= self.points
            and (facts.production_change or not self.production)
            and (facts.irreversible or not self.irreversible)
            and (not self.tools or not facts.tools.isdisjoint(self.tools))
        )

    def because(self, facts: PlanFacts) -> str:
        """Returns why it holds, in words."""
        parts = [f"its risk is {facts.risk_level}"] if self.risk else []
        if self.points:
            parts.append(f"it has {facts.points} approval point" + "s" * (facts.points != 1))
        if self.production:
            parts.append("it changes production")
        if self.irreversible:
            parts.append("it is irreversible")
        if self.tools:
            parts.append("it uses " + ", ".join(sorted(facts.tools.intersection(self.tools))))
        return " and ".join(parts) or "it holds for every plan"


@dataclass(frozen=True)
class ApprovalLevel:
    """How much approval a plan needs, and by which rule."""

    level: int
    rule: str
    """The rule that decided; an ``auto_approved`` decision names it."""
    reasons: tuple[str, ...]
    points: int

    def to_json(self) -> dict[str, Any]:
        """Returns the level as JSON."""
        return {
            "level": self.level,
            "rule": self.rule,
            "reasons": list(self.reasons),
            "points": self.points,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ApprovalLevel:
        """Reads what ``to_json`` wrote."""
        return cls(data["level"], data["rule"], tuple(data["reasons"]), data["points"])


@dataclass(frozen=True)
class Policy:
    """Who must agree to what."""

    name: str
    version: str
    rules: tuple[Rule, ...]
    requester_may_approve: frozenset[int] = frozenset({1})
    """Levels at which the person who asked may approve."""
    people: Mapping[int, int] = field(default_factory=dict)
    """Distinct people a request needs, per level; one where nothing is said."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The people of each group a plan's ``approval:`` may name."""
    operator_stands_for_groups: bool = False
    """Whether any approver satisfies groups, as where one person operates alone."""
    expires: timedelta | None = timedelta(days=7)
    """How long requests stay open; a plan's ``approval: {expires}`` counts for its step."""
    max_steps: int = MAX_STEPS

    def people_at(self, level: int) -> int:
        """Returns how many distinct people must agree at a level."""
        return max(1, self.people.get(level, 1))

    def level_for(self, facts: PlanFacts) -> ApprovalLevel:
        """Returns the highest level any rule asks; destructive plans never get level 0."""
        where = f"policy {self.name} {self.version}"
        holding = [rule for rule in self.rules if rule.holds(facts)]
        if not holding:
            reason = f"{where}: no rule is about such a plan, so every step is asked for"
            return ApprovalLevel(HIGHEST_LEVEL, "no-rule", (reason,), facts.points)
        level = max(rule.level for rule in holding)
        deciding = [rule for rule in holding if rule.level == level]
        reasons = [f"{where}, rule {rule.name}: {rule.because(facts)}" for rule in deciding]
        if level == 0 and facts.risk_class == DESTRUCTIVE:
            reasons.append("no policy runs a destructive step without approval")
            return ApprovalLevel(1, FLOOR_RULE, tuple(reasons), facts.points)
        if level and level in self.requester_may_approve and self.operator_stands_for_groups:
            reasons.append(f"{where}: the local operator may approve their own plans")
        return ApprovalLevel(level, deciding[0].name, tuple(reasons), facts.points)


_DEFAULT_RULES = (
    Rule("low-risk", 0, risk=("low",)),
    Rule("medium-risk", 1, risk=("medium",)),
    Rule("high-risk", 2, risk=("high",)),
    Rule("approval-point", 2, points=1),
    Rule("production-change", 2, production=True),
    Rule("critical-risk", 3, risk=("critical",)),
    Rule("irreversible", 3, irreversible=True),
    Rule("several-approval-points", 3, points=2),
)

DEFAULT_POLICY = Policy(name="default", version="1", rules=_DEFAULT_RULES)
"""Levels by risk; from level 2 up the requester does not approve."""

EMBEDDED_POLICY = Policy(
    name="embedded",
    version="1",
    rules=_DEFAULT_RULES,
    requester_may_approve=frozenset({1, 2, 3}),
    operator_stands_for_groups=True,
)
"""The same levels, where a lone operator may approve their own plans and speaks for every group."""
