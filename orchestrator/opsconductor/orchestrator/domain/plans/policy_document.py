"""Reads a policy document into a Policy and tells every mistake at once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.findings import Findings, shown
from opsconductor.orchestrator.domain.plans.plan import MAX_STEPS
from opsconductor.orchestrator.domain.plans.policy import (
    DEFAULT_POLICY,
    HIGHEST_LEVEL,
    Policy,
    Rule,
)
from opsconductor.orchestrator.domain.plans.risk import LEVELS
from opsconductor.orchestrator.domain.plans.section import Section
from opsconductor.rpc.errors import DocumentInvalid, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_EXPIRY_BOUNDS = (timedelta(minutes=1), timedelta(days=90))
_KEYS = (
    "name",
    "version",
    "rules",
    "requester_may_approve",
    "people",
    "groups",
    "operator_stands_for_groups",
    "expires",
    "max_steps",
)
_RULE_KEYS = ("name", "level", "risk", "points", "production", "irreversible", "tools")


def read_policy(document: Mapping[str, Any], lines: Mapping[str, int] | None = None) -> Policy:
    """Reads a policy document.

    Raises:
        DocumentInvalid: It has faults; all of them are told.
    """
    findings = Findings(lines or {})
    section = Section(document, "", "", findings)
    section.refuse_unknown(_KEYS)
    policy = Policy(
        name=section.identifier("name", required=True),
        version=section.identifier("version", required=True),
        rules=_rules(section),
        requester_may_approve=frozenset(_levels(section)) or frozenset({1}),
        people=_people(section),
        groups=_groups(section),
        operator_stands_for_groups=section.boolean("operator_stands_for_groups", default=False),
        expires=section.duration("expires", _EXPIRY_BOUNDS) or DEFAULT_POLICY.expires,
        max_steps=section.integer("max_steps", MAX_STEPS, (1, MAX_STEPS)),
    )
    if findings.faults:
        raise DocumentInvalid("The policy has faults.", faults=findings.all_faults())
    return policy


def require_known_tools(
    policy: Policy, find: Callable[[str], object | None], suggest: Callable[[str], Sequence[str]]
) -> None:
    """Raises DocumentInvalid when a rule names a tool nobody has: it would never hold."""
    faults = [
        Fault(
            code="UNKNOWN_TOOL",
            field=f"rules.{rule.name}.tools",
            found=tool,
            expected="a tool's name" + (f"; did you mean {near[0]}?" if near else ""),
        )
        for rule in policy.rules
        for tool in rule.tools
        if find(tool) is None
        for near in [suggest(tool)]
    ]
    if faults:
        raise DocumentInvalid("The policy has faults.", faults=faults)


def _rules(section: Section) -> tuple[Rule, ...]:
    items: Sequence[Any] = section.items("rules", "a list of rules")
    rules = []
    for index, item in enumerate(items):
        inside = section.enter(f"rules[{index}]", item)
        if inside is None:
            continue
        inside.refuse_unknown(_RULE_KEYS)
        risk = inside.texts("risk", "a list of " + " | ".join(LEVELS))
        for word in set(risk) - set(LEVELS):
            inside.fault("ENUM", "risk", found=shown(word), expected=" | ".join(LEVELS))
        rules.append(
            Rule(
                name=inside.identifier("name", required=True),
                level=inside.integer("level", HIGHEST_LEVEL, (0, HIGHEST_LEVEL)),
                risk=risk,
                points=inside.integer("points", 0, (0, MAX_STEPS)),
                production=inside.boolean("production", default=False),
                irreversible=inside.boolean("irreversible", default=False),
                tools=inside.texts("tools", "a list of tools"),
            )
        )
    if not items:
        section.fault("MISSING", "rules", expected="at least one rule")
    return tuple(rules)


def _levels(section: Section) -> list[int]:
    levels = section.items("requester_may_approve", "a list of levels")
    for index, level in enumerate(levels):
        if isinstance(level, bool) or level not in (1, 2, 3):
            section.fault(
                "RANGE", f"requester_may_approve[{index}]", found=shown(level), expected="1, 2 or 3"
            )
    return [level for level in levels if isinstance(level, int)]


def _people(section: Section) -> dict[int, int]:
    inside = section.inside("people")
    if inside is None:
        return {}
    inside.refuse_unknown(("1", "2", "3"))
    return {
        level: inside.integer(str(level), 1, (1, 100))
        for level in (1, 2, 3)
        if str(level) in inside.data
    }


def _groups(section: Section) -> dict[str, tuple[str, ...]]:
    inside = section.inside("groups")
    if inside is None:
        return {}
    return {
        name: inside.texts(name, "a list of people")
        for name in inside.data
        if isinstance(name, str)
    }
