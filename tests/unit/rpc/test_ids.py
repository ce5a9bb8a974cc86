"""Identifiers sort by time, and attempts are named alike everywhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from opsconductor.rpc import ids

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_minted_ids_carry_their_prefix_and_sort_by_time() -> None:
    minted = [ids.mint("exec", NOW + timedelta(milliseconds=n)) for n in range(50)]
    assert minted == sorted(minted)
    assert all(each.startswith("exec_") and len(each) == 31 for each in minted)


def test_ids_minted_at_one_moment_differ() -> None:
    assert len({ids.mint("exec", NOW) for _ in range(1000)}) == 1000


def test_an_attempt_has_one_name_and_no_two_attempts_share_it() -> None:
    name = ids.attempt_id("exec_1", "restart", "forward", 1)
    assert name == ids.attempt_id("exec_1", "restart", "forward", 1)
    others = {
        ids.attempt_id("exec_2", "restart", "forward", 1),
        ids.attempt_id("exec_1", "restar", "tforward", 1),
        ids.attempt_id("exec_1", "restart", "undo", 1),
        ids.attempt_id("exec_1", "restart", "forward", 2),
    }
    assert name not in others
    assert len(others) == 4
