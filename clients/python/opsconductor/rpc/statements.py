"""What people sign: approvals of a plan's steps, and resolutions of steps whose outcome is unknown.

Statements are canonical JSON. The signed bytes are stored and sent as they are, so that
``ssh-keygen -Y verify`` succeeds on exactly what an agent accepts.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.rpc import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NAMESPACE = "approval@opsconductor.v1"
"""SSHSIG namespace of every statement; a signature made for anything else never counts."""
CLOCK_SKEW = timedelta(minutes=5)
"""How far the signer's and the verifier's clocks may differ."""
# Agents remember an attempt for eight days; a statement outliving that could be replayed.
MAX_VALIDITY = timedelta(days=7)
"""Longest validity a statement may claim."""
ALL_STEPS = "*"
"""Stands for every step and rollback call of the manifest."""

_APPROVAL = "opsconductor.approval/1"
_RESOLUTION = "opsconductor.resolution/1"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_MAX_BYTES = 256 * 1024
_MAX_REASON = 4_000
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_NONCE = re.compile(r"[0-9a-f]{32,64}")


class StatementInvalid(ValueError):
    """The bytes are no statement of ours."""


@dataclass(frozen=True, slots=True)
class _Statement:
    tenant: str
    execution_id: str
    approver: str
    not_before: datetime
    not_after: datetime
    nonce: str
    reason: str

    def valid_at(self, at: datetime) -> bool:
        """Tells whether the statement is in force, allowing for clock skew."""
        return self.not_before - CLOCK_SKEW <= at <= self.not_after + CLOCK_SKEW


@dataclass(frozen=True, slots=True)
class ApprovalStatement(_Statement):
    """One person lets steps of one execution run, exactly as the manifest digest fixes them."""

    plan_digest: str
    steps: tuple[str, ...]

    def covers(self, step_id: str) -> bool:
        """Tells whether the step, or the rollback call, is among those approved."""
        return self.steps == (ALL_STEPS,) or step_id in self.steps


@dataclass(frozen=True, slots=True)
class ResolutionStatement(_Statement):
    """One person lets a step run again after an attempt whose outcome is unknown."""

    step_id: str
    attempt_id: str

    def covers(self, step_id: str) -> bool:
        """Tells whether this is the step that may run again."""
        return step_id == self.step_id


def approval_statement(
    *,
    tenant: str,
    execution_id: str,
    plan_digest: str,
    steps: Sequence[str],
    approver: str,
    not_before: datetime,
    not_after: datetime,
    nonce: str = "",
    reason: str = "",
) -> bytes:
    """Returns the bytes to sign for an approval.

    Without a nonce a fresh one is drawn. Raises StatementInvalid for what no agent would accept.
    """
    return _checked(
        {
            "type": _APPROVAL,
            "decision": "approve",
            "tenant": tenant,
            "execution_id": execution_id,
            "plan_digest": plan_digest,
            "steps": list(steps),
            "approver": approver,
            "not_before": _written(not_before),
            "not_after": _written(not_after),
            "nonce": nonce or secrets.token_hex(16),
            "reason": reason,
        }
    )


def resolution_statement(
    *,
    tenant: str,
    execution_id: str,
    step_id: str,
    attempt_id: str,
    approver: str,
    not_before: datetime,
    not_after: datetime,
    nonce: str = "",
    reason: str = "",
) -> bytes:
    """Returns the bytes to sign so that a step may run again after the unknown attempt."""
    return _checked(
        {
            "type": _RESOLUTION,
            "resolution": "retry",
            "tenant": tenant,
            "execution_id": execution_id,
            "step_id": step_id,
            "attempt_id": attempt_id,
            "approver": approver,
            "not_before": _written(not_before),
            "not_after": _written(not_after),
            "nonce": nonce or secrets.token_hex(16),
            "reason": reason,
        }
    )


def parse_statement(data: bytes) -> ApprovalStatement | ResolutionStatement:
    """Reads a statement strictly; raises StatementInvalid naming what is wrong.

    Whether it is signed, by whom, for which execution and in force is for the caller to check.
    """
    if len(data) > _MAX_BYTES:
        raise StatementInvalid(f"a statement of {len(data)} bytes is larger than {_MAX_BYTES}")
    try:
        value = canonical.loads(data)
    except canonical.CanonicalError as error:
        raise StatementInvalid(f"the statement cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise StatementInvalid("a statement is a JSON object")
    if value.get("type") == _APPROVAL:
        return ApprovalStatement(**_fields(value, _APPROVAL_FIELDS, {"decision": "approve"}))
    if value.get("type") == _RESOLUTION:
        return ResolutionStatement(**_fields(value, _RESOLUTION_FIELDS, {"resolution": "retry"}))
    raise StatementInvalid(f"unknown type {value.get('type')!r}")


def _checked(value: dict[str, Any]) -> bytes:
    try:
        data = canonical.dumps(value)
    except canonical.CanonicalError as error:
        raise StatementInvalid(str(error)) from error
    parse_statement(data)
    return data


def _fields(
    value: dict[str, Any],
    readers: Mapping[str, Callable[[str, Any], Any]],
    constants: Mapping[str, str],
) -> dict[str, Any]:
    expected = {"type", *readers, *constants}
    if value.keys() != expected:
        odd = ", ".join(sorted(value.keys() ^ expected))
        raise StatementInvalid(f"fields missing or unknown: {odd}")
    for name, constant in constants.items():
        if value[name] != constant:
            raise StatementInvalid(f"{name} is {value[name]!r}, expected {constant!r}")
    fields = {name: read(name, value[name]) for name, read in readers.items()}
    if not timedelta(0) < fields["not_after"] - fields["not_before"] <= MAX_VALIDITY:
        raise StatementInvalid(f"validity must be above 0 and at most {MAX_VALIDITY.days} days")
    return fields


def _matching(pattern: re.Pattern[str]) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise StatementInvalid(f"{name} is {value!r}, expected {pattern.pattern}")
        return value

    return read


def _steps(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise StatementInvalid(f"{name} must be a list of step ids, or [{ALL_STEPS!r}]")
    if value == [ALL_STEPS]:
        return (ALL_STEPS,)
    steps = tuple(_matching(_ID)(name, step) for step in value)
    if len(set(steps)) != len(steps):
        raise StatementInvalid(f"{name} names a step twice")
    return steps


def _reason(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_REASON:
        raise StatementInvalid(f"{name} must be text of at most {_MAX_REASON} characters")
    return value


def _time(name: str, value: Any) -> datetime:
    try:
        time = datetime.strptime(value, _TIME).replace(tzinfo=UTC)
    except (TypeError, ValueError) as error:
        raise StatementInvalid(f"{name} is {value!r}, expected a time like {_TIME}") from error
    if time.strftime(_TIME) != value:
        raise StatementInvalid(f"{name} is {value!r}, expected a time like {_TIME}")
    return time


def _written(time: datetime) -> str:
    if time.tzinfo is None:
        raise StatementInvalid("times in statements must be aware")
    return time.astimezone(UTC).strftime(_TIME)


_COMMON_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "tenant": _matching(_ID),
    "execution_id": _matching(_ID),
    "approver": _matching(_ID),
    "not_before": _time,
    "not_after": _time,
    "nonce": _matching(_NONCE),
    "reason": _reason,
}
_APPROVAL_FIELDS = _COMMON_FIELDS | {"plan_digest": _matching(_DIGEST), "steps": _steps}
_RESOLUTION_FIELDS = _COMMON_FIELDS | {"step_id": _matching(_ID), "attempt_id": _matching(_ID)}
