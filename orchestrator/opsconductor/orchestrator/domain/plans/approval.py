"""Approval: what has to be agreed by whom, and whether it has been. One function decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

APPROVED = "approved"
REJECTED = "rejected"
CHANGES_REQUESTED = "changes_requested"
EXPIRED = "expired"
PENDING = "pending"


class Decided(Protocol):
    """A decision as ``judge`` reads it."""

    @property
    def kind(self) -> str:
        """``approve``, ``reject`` or ``request_changes``; others do not count."""

    @property
    def person(self) -> str:
        """Who decided."""

    @property
    def at(self) -> datetime:
        """When it was recorded."""


@dataclass(frozen=True)
class GroupShare:
    """How many people of a group must agree, and who they are."""

    group: str
    approve: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class Requirement:
    """Who must agree, complete in itself: a later policy does not alter an open request."""

    level: int
    people: int = 1
    """Distinct people in total."""
    all_of: tuple[GroupShare, ...] = ()
    any_of: tuple[GroupShare, ...] = ()
    requester_may_approve: bool = False
    operator_stands_for_groups: bool = False
    expires_ms: int = 0
    """How long the request stays open; 0 means without limit."""

    def words(self) -> str:
        """Returns the requirement as a sentence for people."""
        if self.operator_stands_for_groups:
            groups = ""
        else:
            groups = _words(self.all_of, " and ")
            either = _words(self.any_of, " or ")
            groups = " and ".join(part for part in (groups, either and f"either {either}") if part)
        people = f"{self.people} " + ("person" if self.people == 1 else "different people")
        text = groups or people
        if self.requester_may_approve:
            return f"{text}; the requester may be one of them"
        return f"{text} other than the requester"

    def to_json(self) -> dict[str, Any]:
        """Returns the requirement as JSON."""
        return {
            "level": self.level,
            "people": self.people,
            "all_of": [_share_json(share) for share in self.all_of],
            "any_of": [_share_json(share) for share in self.any_of],
            "requester_may_approve": self.requester_may_approve,
            "operator_stands_for_groups": self.operator_stands_for_groups,
            "expires_ms": self.expires_ms,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Requirement:
        """Reads what ``to_json`` wrote."""
        return cls(
            level=data["level"],
            people=data["people"],
            all_of=tuple(_share(item) for item in data["all_of"]),
            any_of=tuple(_share(item) for item in data["any_of"]),
            requester_may_approve=data["requester_may_approve"],
            operator_stands_for_groups=data["operator_stands_for_groups"],
            expires_ms=data["expires_ms"],
        )


@dataclass(frozen=True)
class Verdict:
    """What the decisions so far amount to."""

    state: str
    """``approved``, ``rejected``, ``changes_requested``, ``expired`` or ``pending``."""
    missing: str = ""
    """What is still missing, in words; empty unless pending or expired."""
    approvers: tuple[str, ...] = ()
    """People whose approval counts, first come first."""
    decided_by: str = ""
    """Who rejected or asked for changes."""


@dataclass(frozen=True)
class Gate:
    """One approval request that has to be opened."""

    step_id: str
    """Step it holds back; empty for the whole plan."""
    level: int
    step_ids: tuple[str, ...]
    """Steps an approval of it covers."""
    requirement: Requirement
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the gate as JSON."""
        return {
            "step_id": self.step_id,
            "level": self.level,
            "step_ids": list(self.step_ids),
            "requirement": self.requirement.to_json(),
            "reasons": list(self.reasons),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Gate:
        """Reads what ``to_json`` wrote."""
        return cls(
            step_id=data["step_id"],
            level=data["level"],
            step_ids=tuple(data["step_ids"]),
            requirement=Requirement.from_json(data["requirement"]),
            reasons=tuple(data["reasons"]),
        )


@dataclass(frozen=True)
class Gates:
    """All approval requests a plan will open: one for the plan at most, and one for some steps."""

    plan: Gate | None = None
    steps: Mapping[str, Gate] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether anyone has to be asked at all."""
        return self.plan is not None or bool(self.steps)

    def to_json(self) -> dict[str, Any]:
        """Returns the gates as JSON."""
        return {
            "plan": self.plan.to_json() if self.plan else None,
            "steps": [gate.to_json() for gate in self.steps.values()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Gates:
        """Reads what ``to_json`` wrote."""
        steps = [Gate.from_json(item) for item in data["steps"]]
        plan = Gate.from_json(data["plan"]) if data["plan"] else None
        return cls(plan, {gate.step_id: gate for gate in steps})


def judge(
    requirement: Requirement,
    decisions: Sequence[Decided],
    *,
    requester: str,
    now: datetime,
    submitted_by: str = "",
    expires_at: datetime | None = None,
) -> Verdict:
    """Returns what the decisions on one request amount to at ``now``.

    One rejection rejects. A person counts once, for one group. A service that submitted for a
    person never counts, and the requester only where the requirement says so. What comes at or
    after ``expires_at`` counts for nothing, and time running out never approves.
    """
    in_time = [d for d in decisions if expires_at is None or d.at < expires_at]
    for decision in in_time:
        if decision.kind == "reject":
            return Verdict(REJECTED, decided_by=decision.person)
    excluded = {submitted_by} - {requester, ""}
    if not requirement.requester_may_approve:
        excluded.add(requester)
    approvals = [d.person for d in in_time if d.kind == "approve" and d.person not in excluded]
    approvers = tuple(dict.fromkeys(approvals))
    missing = _missing(requirement, approvers)
    if not missing:
        return Verdict(APPROVED, approvers=approvers)
    asked = [d.person for d in in_time if d.kind == "request_changes"]
    if asked:
        return Verdict(CHANGES_REQUESTED, missing, approvers, decided_by=asked[-1])
    expired = expires_at is not None and now >= expires_at
    return Verdict(EXPIRED if expired else PENDING, missing, approvers)


def _missing(requirement: Requirement, approvers: Sequence[str]) -> str:
    """Returns what is missing in words; empty when the requirement is met."""
    parts = []
    if not requirement.operator_stands_for_groups:
        parts.append(_missing_groups(requirement, approvers))
    short = requirement.people - len(approvers)
    if short > 0 and not any(parts):
        parts.append(f"{short} more " + ("person" if short == 1 else "people"))
    return "; ".join(part for part in parts if part)


def _missing_groups(requirement: Requirement, approvers: Sequence[str]) -> str:
    unmet = _unfilled(requirement.all_of, approvers)
    if unmet:
        return _words(unmet, " and ") + " still missing"
    if not requirement.any_of:
        return ""
    for share in requirement.any_of:
        if not _unfilled((*requirement.all_of, share), approvers):
            return ""
    return "either " + _words(requirement.any_of, " or ") + " still missing"


def _unfilled(shares: Sequence[GroupShare], people: Sequence[str]) -> tuple[GroupShare, ...]:
    """Returns what each share lacks when every person stands for at most one group.

    A maximum matching of people to places, by augmenting paths, so that nobody is counted for a
    group that could do without them while another needs them.
    """
    places = [share for share in shares for _ in range(min(share.approve, len(people) + 1))]
    taken: dict[int, str] = {}

    def seat(person: str, tried: set[int]) -> bool:
        for place, share in enumerate(places):
            if place in tried or person not in share.members:
                continue
            tried.add(place)
            if place not in taken or seat(taken[place], tried):
                taken[place] = person
                return True
        return False

    for person in people:
        seat(person, set())
    lacking = []
    for share in shares:
        have = sum(1 for place in taken if places[place] is share)
        if have < share.approve:
            lacking.append(GroupShare(share.group, share.approve - have, share.members))
    return tuple(lacking)


def _words(shares: Sequence[GroupShare], between: str) -> str:
    return between.join(f"{share.approve} of group {share.group}" for share in shares)


def _share_json(share: GroupShare) -> dict[str, Any]:
    return {"group": share.group, "approve": share.approve, "members": list(share.members)}


def _share(data: Mapping[str, Any]) -> GroupShare:
    return GroupShare(data["group"], data["approve"], tuple(data["members"]))
