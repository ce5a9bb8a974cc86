"""Canonical JSON: one spelling, and no readings that differ between programs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.rpc import canonical

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


@given(values)
def test_what_is_written_reads_back_and_writes_the_same(value: Any) -> None:
    data = canonical.dumps(value)
    assert canonical.loads(data) == value
    assert canonical.dumps(canonical.loads(data)) == data


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), scalars))
def test_the_order_of_keys_does_not_matter(value: Any) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical.dumps(value) == canonical.dumps(backwards)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        "NaN",
        "Infinity",
        "9007199254740992",
        '"\\ud800"',
        "[" * 100 + "]" * 100,
        "[" * 100_000,
        "{",
        "",
        "1e999",
        "1 2",
    ],
)
def test_json_that_readers_disagree_on_is_refused(text: str) -> None:
    with pytest.raises(canonical.CanonicalError):
        canonical.loads(text.encode())


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(canonical.CanonicalError):
        canonical.loads(b'"\xff"')


@pytest.mark.parametrize("value", [{1: 2}, {"a": object()}, float("nan"), 2**53, "\ud800"])
def test_values_outside_the_profile_are_refused(value: Any) -> None:
    with pytest.raises(canonical.CanonicalError):
        canonical.dumps(value)


def test_digests_of_different_domains_differ() -> None:
    data = json.dumps({}).encode()
    assert canonical.digest(canonical.STEP_DOMAIN, data) != canonical.digest(
        canonical.MANIFEST_DOMAIN, data
    )
