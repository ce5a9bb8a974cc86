"""Statements say one thing, read one way."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.rpc import canonical
from opsconductor.rpc.statements import (
    CLOCK_SKEW,
    MAX_VALIDITY,
    ApprovalStatement,
    ResolutionStatement,
    StatementInvalid,
    approval_statement,
    parse_statement,
    resolution_statement,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DIGEST = "sha256:" + "ab" * 32


def approval(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "tenant": "default",
        "execution_id": "exec_1",
        "plan_digest": DIGEST,
        "steps": ["space", "restart"],
        "approver": "alice@corp",
        "not_before": NOW,
        "not_after": NOW + timedelta(hours=24),
        "nonce": "0" * 32,
        "reason": "looks right",
    }
    return approval_statement(**(fields | changes))


def resolution(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "tenant": "default",
        "execution_id": "exec_1",
        "step_id": "restart",
        "attempt_id": "att_1",
        "approver": "alice",
        "not_before": NOW,
        "not_after": NOW + timedelta(hours=1),
    }
    return resolution_statement(**(fields | changes))


def test_an_approval_reads_back_as_it_was_made() -> None:
    assert parse_statement(approval()) == ApprovalStatement(
        tenant="default",
        execution_id="exec_1",
        plan_digest=DIGEST,
        steps=("space", "restart"),
        approver="alice@corp",
        not_before=NOW,
        not_after=NOW + timedelta(hours=24),
        nonce="0" * 32,
        reason="looks right",
    )


def test_a_resolution_reads_back_as_it_was_made() -> None:
    statement = parse_statement(resolution(reason="checked by hand"))
    assert isinstance(statement, ResolutionStatement)
    assert (statement.step_id, statement.attempt_id) == ("restart", "att_1")
    assert statement.covers("restart")
    assert not statement.covers("space")


def test_statements_are_the_canonical_json_people_can_check_in_a_shell() -> None:
    data = approval()
    assert data == canonical.dumps(json.loads(data))
    assert json.loads(data)["type"] == "opsconductor.approval/1"
    assert json.loads(data)["not_before"] == "2026-03-01T12:00:00Z"


def test_an_approval_covers_the_steps_it_names_or_all() -> None:
    named, everything = parse_statement(approval()), parse_statement(approval(steps=["*"]))
    assert named.covers("restart")
    assert not named.covers("rest")
    assert not named.covers("*")
    assert everything.covers("anything")


def test_validity_allows_for_clock_skew_and_no_more() -> None:
    statement = parse_statement(approval())
    end = NOW + timedelta(hours=24)
    second = timedelta(seconds=1)
    assert statement.valid_at(NOW - CLOCK_SKEW)
    assert not statement.valid_at(NOW - CLOCK_SKEW - second)
    assert statement.valid_at(end + CLOCK_SKEW)
    assert not statement.valid_at(end + CLOCK_SKEW + second)


def test_every_statement_draws_its_own_nonce() -> None:
    assert resolution() != resolution()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("decision", "reject"),
        ("decision", None),
        ("type", "opsconductor.approval/2"),
        ("type", "opsconductor.resolution/1"),
        ("tenant", ""),
        ("tenant", 7),
        ("execution_id", "exec 1"),
        ("execution_id", "exec_1\n"),
        ("plan_digest", "ab" * 32),
        ("plan_digest", DIGEST.upper()),
        ("steps", []),
        ("steps", "restart"),
        ("steps", ["*", "restart"]),
        ("steps", ["restart", "restart"]),
        ("steps", [1]),
        ("approver", "al ice"),
        ("not_before", "2026-03-01 12:00:00"),
        ("not_before", "2026-03-01T12:00:00+00:00"),
        ("not_before", "2026-3-1T12:00:00Z"),
        ("not_after", "2026-03-01T12:00:00Z"),
        ("not_after", "2026-02-01T12:00:00Z"),
        ("not_after", "2027-03-01T12:00:00Z"),
        ("nonce", ""),
        ("nonce", "A" * 32),
        ("reason", None),
        ("reason", "x" * 5000),
        ("extra", 1),
    ],
)
def test_any_field_that_is_not_as_agreed_makes_the_statement_void(field: str, value: Any) -> None:
    changed = json.loads(approval()) | {field: value}
    with pytest.raises(StatementInvalid):
        parse_statement(canonical.dumps(changed))


@pytest.mark.parametrize("field", sorted(json.loads(approval())))
def test_no_field_may_be_missing(field: str) -> None:
    changed = json.loads(approval())
    del changed[field]
    with pytest.raises(StatementInvalid):
        parse_statement(canonical.dumps(changed))


def test_a_field_given_twice_is_refused() -> None:
    data = approval().replace(b'"tenant":', b'"tenant":"other","tenant":')
    with pytest.raises(StatementInvalid, match="duplicate"):
        parse_statement(data)


@given(st.binary(max_size=200))
def test_junk_is_refused_and_never_breaks_the_reader(data: bytes) -> None:
    with pytest.raises(StatementInvalid):
        parse_statement(data)


def test_nothing_that_would_be_refused_can_be_signed() -> None:
    with pytest.raises(StatementInvalid):
        approval(steps=[])
    with pytest.raises(StatementInvalid, match="aware"):
        approval(not_before=NOW.replace(tzinfo=None))
    with pytest.raises(StatementInvalid, match="at most 7 days"):
        approval(not_after=NOW + MAX_VALIDITY + timedelta(seconds=1))
    with pytest.raises(StatementInvalid):
        approval(reason="\ud800")


def test_a_statement_of_unreasonable_size_is_not_even_read() -> None:
    with pytest.raises(StatementInvalid, match="larger"):
        parse_statement(b" " * 300_000)
