"""One pure function decides what the decisions on a request amount to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.orchestrator.domain.plans.approval import (
    Gate,
    Gates,
    GroupShare,
    Requirement,
    Verdict,
    judge,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Said:
    person: str
    kind: str = "approve"
    at: datetime = NOON


def verdict(
    requirement: Any, *said: Any, requester: Any = "alice", now: Any = NOON, **more: Any
) -> Verdict:
    return judge(requirement, said, requester=requester, now=now, **more)


ONE = Requirement(level=2)
SRE = GroupShare("sre", 2, ("bob", "carol", "dave"))
OWNER = GroupShare("owner", 1, ("bob",))


def test_nobody_said_anything_yet() -> None:
    result = verdict(ONE)
    assert (result.state, result.missing) == ("pending", "1 more person")


def test_one_other_person_is_enough_at_level_2() -> None:
    assert verdict(ONE, Said("bob")).state == "approved"


def test_the_requester_does_not_count_from_level_2_up() -> None:
    assert verdict(ONE, Said("alice")).state == "pending"


def test_the_requester_may_confirm_where_the_requirement_says_so() -> None:
    confirm = Requirement(level=1, requester_may_approve=True)
    assert verdict(confirm, Said("alice")).state == "approved"


@pytest.mark.parametrize("may", [True, False])
def test_the_service_that_submitted_never_counts(may: Any) -> None:
    requirement = Requirement(level=1, requester_may_approve=may)
    result = verdict(requirement, Said("pipeline"), submitted_by="pipeline")
    assert result.state == "pending"


def test_one_person_counts_once() -> None:
    two = Requirement(level=2, people=2)
    assert verdict(two, Said("bob"), Said("bob")).missing == "1 more person"
    assert verdict(two, Said("bob"), Said("carol")).state == "approved"


def test_one_rejection_rejects_whatever_others_say() -> None:
    result = verdict(ONE, Said("bob", "reject"), Said("carol"))
    assert (result.state, result.decided_by) == ("rejected", "bob")


def test_request_for_changes_leaves_the_plan_to_its_author() -> None:
    result = verdict(ONE, Said("bob", "request_changes"))
    assert (result.state, result.decided_by) == ("changes_requested", "bob")


def test_all_groups_must_agree() -> None:
    both = Requirement(level=2, all_of=(SRE, OWNER))
    assert verdict(both, Said("carol"), Said("dave")).missing == "1 of group owner still missing"
    assert verdict(both, Said("carol"), Said("dave"), Said("bob")).state == "approved"


def test_one_person_stands_for_one_group_only() -> None:
    both = Requirement(level=2, all_of=(SRE, OWNER))
    assert verdict(both, Said("bob"), Said("carol")).state == "pending"


def test_people_are_seated_where_they_are_needed_in_any_order() -> None:
    both = Requirement(level=2, all_of=(GroupShare("any", 1, ("bob", "carol")), OWNER))
    assert verdict(both, Said("bob"), Said("carol")).state == "approved"
    assert verdict(both, Said("carol"), Said("bob")).state == "approved"


def test_one_of_the_alternatives_is_enough() -> None:
    either = Requirement(level=2, any_of=(SRE, OWNER))
    assert verdict(either, Said("carol")).state == "pending"
    assert verdict(either, Said("bob")).state == "approved"


def test_group_nobody_belongs_to_is_never_satisfied() -> None:
    empty = Requirement(level=2, all_of=(GroupShare("ghosts", 1, ()),))
    assert verdict(empty, Said("bob"), Said("carol")).state == "pending"


def test_lone_operator_stands_for_every_group_where_the_policy_says_so() -> None:
    alone = Requirement(
        level=3, all_of=(SRE,), requester_may_approve=True, operator_stands_for_groups=True
    )
    assert verdict(alone, Said("alice")).state == "approved"


def test_time_running_out_never_approves() -> None:
    late = NOON + timedelta(hours=1)
    result = verdict(ONE, Said("bob", at=late), now=late, expires_at=late)
    assert result.state == "expired"
    assert verdict(ONE, now=NOON, expires_at=late).state == "pending"


def test_what_was_approved_in_time_stays_approved() -> None:
    late = NOON + timedelta(hours=1)
    assert verdict(ONE, Said("bob"), now=late, expires_at=late).state == "approved"


PEOPLE = st.sampled_from(["alice", "bob", "carol", "dave", "erin"])
KINDS = st.sampled_from(["approve", "approve", "reject", "request_changes", "edit", "junk"])
SHARES = st.builds(
    GroupShare,
    group=st.sampled_from(["sre", "owner"]),
    approve=st.integers(1, 3),
    members=st.lists(PEOPLE, unique=True).map(tuple),
)
REQUIREMENTS = st.builds(
    Requirement,
    level=st.integers(1, 3),
    people=st.integers(1, 3),
    all_of=st.lists(SHARES, max_size=2).map(tuple),
    any_of=st.lists(SHARES, max_size=2).map(tuple),
    requester_may_approve=st.booleans(),
    operator_stands_for_groups=st.booleans(),
    expires_ms=st.integers(0, 1000),
)
DECISIONS = st.lists(st.builds(Said, person=PEOPLE, kind=KINDS), max_size=7)


@given(REQUIREMENTS, DECISIONS)
def test_approved_means_enough_distinct_people_and_no_rejection(
    requirement: Any, said: Any
) -> None:
    result = verdict(requirement, *said)
    if result.state != "approved":
        return
    allowed = {d.person for d in said if d.kind == "approve"}
    if not requirement.requester_may_approve:
        allowed.discard("alice")
    assert set(result.approvers) <= allowed
    assert len(set(result.approvers)) >= requirement.people
    assert not any(d.kind == "reject" for d in said)
    if not requirement.operator_stands_for_groups:
        for share in requirement.all_of:
            assert len(allowed & set(share.members)) >= share.approve
        assert len(allowed) >= sum(share.approve for share in requirement.all_of)


@given(REQUIREMENTS, DECISIONS, st.builds(Said, person=PEOPLE))
def test_one_more_approval_never_takes_an_approval_back(
    requirement: Any, said: Any, more: Any
) -> None:
    if verdict(requirement, *said).state == "approved":
        assert verdict(requirement, *said, more).state == "approved"


@given(REQUIREMENTS)
def test_requirements_and_gates_survive_json(requirement: Any) -> None:
    assert Requirement.from_json(requirement.to_json()) == requirement
    gate = Gate("a", requirement.level, ("a", "b"), requirement, ("why",))
    gates = Gates(gate, {"a": gate})
    assert Gates.from_json(gates.to_json()) == gates
    assert requirement.words()
