from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.cli.arguments import parse_inputs, read_value

_SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "force": {"type": "boolean"},
        "argv": {"type": "array"},
        "env": {"type": "object"},
        "port": {"type": ["integer", "string"]},
        "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        "level": {"enum": [1, 2, 3]},
        "any": {},
    },
}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("path=/tmp/a=b", "/tmp/a=b"),
        ("path=", ""),
        ("path=12", "12"),
        ("path=@file", "@file"),
        ("path=-x", "-x"),
        ("count=-3", -3),
        ("count=4.0", 4),
        ("share=0.5", 0.5),
        ("share=2", 2),
        ("force=true", True),
        ('argv=["a",1]', ["a", 1]),
        ('env={"A":{"B":[]}}', {"A": {"B": []}}),
        ("port=80", 80),
        ("port=http", "http"),
        ("either=null", None),
        ("level=2", 2),
        ("any=text", "text"),
        ("any=[1]", [1]),
    ],
)
def test_a_value_is_read_by_its_type(word: str, value: Any) -> None:
    inputs, faults = parse_inputs(_SCHEMA, [word])
    assert faults == []
    assert inputs == {word.partition("=")[0]: value}
    assert type(next(iter(inputs.values()))) is type(value)


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("count=three", "TYPE"),
        ("count=1.5", "TYPE"),
        ("count=true", "TYPE"),
        ("share=NaN", "TYPE"),
        ("force=yes", "TYPE"),
        ("argv=a,b", "TYPE"),
        ("env=[1]", "TYPE"),
        ("level=high", "TYPE"),
        ("pth=/", "UNKNOWN_KEY"),
        ("path", "ARGUMENT"),
    ],
)
def test_a_value_that_does_not_fit_is_a_fault(word: str, code: str) -> None:
    inputs, faults = parse_inputs(_SCHEMA, [word])
    assert inputs == {}
    assert [fault.code for fault in faults] == [code]
    assert faults[0].expected or faults[0].hint


def test_the_same_input_twice_is_a_fault() -> None:
    _, faults = parse_inputs(_SCHEMA, ["path=a", "path=b"])
    assert [fault.code for fault in faults] == ["DUPLICATE_KEY"]


@given(st.lists(st.text(max_size=20), max_size=6))
def test_no_words_make_it_fail_otherwise(words: list[str]) -> None:
    inputs, faults = parse_inputs(_SCHEMA, words)
    assert len(inputs) + len(faults) == len(words)


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53), st.lists))
def test_json_is_read_back_as_it_was_written(value: Any) -> None:
    types = ["null", "boolean", "integer", "array"]
    assert read_value(json.dumps(value), types) == value
