from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.cli.escape import escape
from opsconductor.cli.structured import answers_data, column_order, is_structured, show_data
from opsconductor.cli.terminal import Terminal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=12,
)


def shown(value: Any, order: tuple[str, ...] = ()) -> str:
    out = io.StringIO()
    show_data(Terminal(out, io.StringIO()), value, order)
    return out.getvalue()


def test_a_list_of_objects_is_a_table_in_the_authors_order_with_amounts_for_people() -> None:
    rows = [{"size_bytes": 2048, "filesystem": "/dev/sda", "use_percent": 7}]
    header, row = shown({"filesystems": rows}, ("filesystems", "filesystem", "size_bytes"))[
        :-1
    ].splitlines()
    assert header.split() == ["FILESYSTEM", "SIZE", "USE"]
    assert row.split() == ["/dev/sda", "2.0", "KiB", "7", "%"]


def test_counts_and_their_breakdown_are_fields() -> None:
    text = shown({"total_count": 7, "breakdown": {"router": 1, "server": 6}, "assets": []})
    assert text.splitlines() == [
        "assets       none",
        "breakdown    router 1",
        "             server 6",
        "total count  7",
    ]


def test_long_lists_are_cut_and_say_so() -> None:
    assert "… and 5 more" in shown({"items": [{"n": number} for number in range(30)]})


def test_columns_without_values_are_left_out() -> None:
    header = shown([{"name": "a", "tags": [], "note": ""}, {"name": "b"}]).splitlines()[0]
    assert header.split() == ["NAME"]


@pytest.mark.parametrize(
    ("value", "structured"),
    [({"text": "x"}, False), ("x", False), (None, False), ({}, False), ({"a": 1}, True)],
)  # fmt: skip
def test_text_alone_is_no_structure(value: object, structured: bool) -> None:
    assert is_structured(value) is structured


def test_the_order_of_columns_is_that_of_the_definition() -> None:
    definition = (
        b"output: {schema: {properties: {b: {items: {properties: {z: {}, a: {}}}}, c: {}}}}"
    )
    assert column_order(definition) == ["b", "z", "a", "c"]


@pytest.mark.parametrize("definition", [b"", b"[", b"output: 3", b"output: {parser: text}"])
def test_a_definition_without_schema_has_no_order(definition: bytes) -> None:
    assert column_order(definition) == []


@given(value=st.lists(JSON) | st.dictionaries(st.text(max_size=9), JSON))
def test_every_json_value_can_be_shown_and_nothing_in_it_controls_the_terminal(value: Any) -> None:
    text = shown(value)
    assert escape(text) == text


@pytest.mark.parametrize(
    ("output", "data"),
    [
        ("{parser: jc, jc_parser: passwd}", True),
        ("{parser: json}", True),
        ("{parser: regex, pattern: x, schema: {properties: {a: {}}}}", True),
        ("{parser: none, schema: {properties: {status: {type: integer}}}}", True),
        ("{parser: text}", False),
        ("{parser: text, schema: {properties: {text: {type: string}}}}", False),
        ("{parser: lines}", False),
        ("{parser: none}", False),
        ("[]", False),
    ],
)
def test_a_tool_that_parses_its_output_answers_with_data(output: str, data: bool) -> None:
    assert answers_data(f"output: {output}".encode()) is data
