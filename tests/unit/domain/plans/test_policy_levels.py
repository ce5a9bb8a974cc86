"""Approval levels: policy as data, and the floor under it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.orchestrator.domain.plans.policy import (
    DEFAULT_POLICY,
    EMBEDDED_POLICY,
    PlanFacts,
    Policy,
    Rule,
)
from opsconductor.orchestrator.domain.plans.policy_document import read_policy, require_known_tools
from opsconductor.orchestrator.domain.plans.risk import LEVELS
from opsconductor.rpc.errors import DocumentInvalid


def facts(
    risk: Any = "low",
    risk_class: Any = "read_only",
    points: Any = 0,
    production: Any = False,
    irreversible: Any = False,
) -> PlanFacts:
    return PlanFacts(risk_class, risk, points, production, irreversible)


@pytest.mark.parametrize(
    ("given_facts", "level", "rule"),
    [
        (facts(), 0, "low-risk"),
        (facts("medium", "modify"), 1, "medium-risk"),
        (facts("high", "destructive"), 2, "high-risk"),
        (facts(points=1), 2, "approval-point"),
        (facts("medium", "modify", production=True), 2, "production-change"),
        (facts(points=2), 3, "several-approval-points"),
        (facts("critical", "modify"), 3, "critical-risk"),
        (facts("medium", "modify", irreversible=True), 3, "irreversible"),
    ],
)
def test_default_levels(given_facts: Any, level: Any, rule: Any) -> None:
    decided = DEFAULT_POLICY.level_for(given_facts)
    assert (decided.level, decided.rule) == (level, rule)
    assert "policy default 1" in decided.reasons[0]


def test_a_rule_may_be_about_plans_that_use_some_tools() -> None:
    rules = (
        Rule("low", 0, risk=("low",)),
        Rule("disks", 1, tools=("check_disk_space", "disk_usage")),
    )
    policy = Policy("strict", "1", rules)
    asking = replace(facts(), tools=frozenset({"uptime", "check_disk_space"}))
    decided = policy.level_for(asking)
    assert (decided.level, decided.rule) == (1, "disks")
    assert decided.reasons == ("policy strict 1, rule disks: it uses check_disk_space",)
    assert policy.level_for(replace(facts(), tools=frozenset({"uptime"}))).level == 0


def test_no_rule_about_tools_goes_below_the_floor() -> None:
    policy = Policy("odd", "1", (Rule("rm", 0, tools=("delete_file",)),))
    removing = replace(facts("high", "destructive"), tools=frozenset({"delete_file"}))
    assert policy.level_for(removing).level == 1


def test_a_rule_that_names_an_unknown_tool_is_refused_with_a_suggestion() -> None:
    policy = Policy("odd", "1", (Rule("disks", 1, tools=("chek_disk",)),))
    known = {"check_disk"}
    with pytest.raises(DocumentInvalid) as caught:
        require_known_tools(policy, lambda name: name in known or None, lambda _: sorted(known))
    (fault,) = caught.value.faults
    assert (fault.code, fault.found) == ("UNKNOWN_TOOL", "chek_disk")
    assert "did you mean check_disk?" in fault.expected


def test_embedded_policy_says_that_the_operator_approves_their_own_plans() -> None:
    decided = EMBEDDED_POLICY.level_for(facts("high", "destructive"))
    assert decided.level == 2
    assert any("local operator" in reason for reason in decided.reasons)


def test_plan_no_rule_is_about_is_asked_for_step_by_step() -> None:
    policy = Policy("odd", "1", (Rule("only-low", 0, risk=("low",)),))
    assert policy.level_for(facts("high", "destructive")).level == 3


RULES = st.builds(
    Rule,
    name=st.just("r"),
    level=st.integers(0, 3),
    risk=st.lists(st.sampled_from(LEVELS), max_size=4).map(tuple),
    points=st.integers(0, 2),
    production=st.booleans(),
    irreversible=st.booleans(),
)


@given(
    st.lists(RULES, max_size=6),
    st.sampled_from(LEVELS),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
)
def test_no_policy_lets_a_destructive_plan_run_at_once(
    rules: Any, risk: Any, points: Any, production: Any, final: Any
) -> None:
    policy = Policy("any", "1", tuple(rules))
    assert policy.level_for(facts(risk, "destructive", points, production, final)).level >= 1


@given(st.lists(RULES, min_size=1, max_size=6), RULES)
def test_another_rule_never_lowers_a_level_that_a_rule_asked_for(rules: Any, more: Any) -> None:
    seen = facts("high", "destructive", 1, True, True)
    before = Policy("a", "1", tuple(rules)).level_for(seen)
    after = Policy("a", "1", (*rules, more)).level_for(seen)
    assert before.rule in ("no-rule", "hard-floor") or after.level >= before.level


def test_policy_is_read_from_a_document() -> None:
    policy = read_policy(
        {
            "name": "strict",
            "version": "2024-06",
            "rules": [{"name": "all", "level": 2, "risk": ["low", "high"], "points": 1}],
            "requester_may_approve": [1],
            "people": {"2": 2},
            "groups": {"sre": ["alice", "bob"]},
            "expires": "4h",
            "max_steps": 20,
        }
    )
    assert policy.people_at(2) == 2
    assert policy.people_at(3) == 1
    assert policy.groups == {"sre": ("alice", "bob")}
    assert policy.max_steps == 20


def test_every_mistake_of_a_policy_is_told_at_once() -> None:
    with pytest.raises(DocumentInvalid) as caught:
        read_policy(
            {
                "name": "x",
                "version": 1,
                "rules": [{"name": "r", "level": 7, "risk": ["lo"]}],
                "expire": "4h",
                "requester_may_approve": [0],
            }
        )
    assert {fault.code for fault in caught.value.faults} == {
        "BAD_ID",
        "RANGE",
        "ENUM",
        "UNKNOWN_KEY",
    }


@given(
    st.dictionaries(
        st.sampled_from(["name", "version", "rules", "people", "groups", "expires"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["1", "level", "risk", "x"]), inner, max_size=3)
            ),
        ),
    )
)
def test_no_policy_document_raises_anything_but_its_faults(document: Any) -> None:
    with contextlib.suppress(DocumentInvalid):
        read_policy(document)
