"""JSON survives protobuf."""

from __future__ import annotations

from typing import Any

from google.protobuf.struct_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.client.requests import struct
from opsconductor.client.values import json_object, json_value

texts = st.text(st.characters(codec="utf-8"), max_size=10)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(texts, values, max_size=5))
def test_an_object_comes_back_as_it_was_sent(value: dict[str, Any]) -> None:
    assert json_object(struct(value)) == value


def test_whole_numbers_come_back_whole_and_others_as_they_are() -> None:
    assert repr(json_value(Value(number_value=3.0))) == "3"
    assert repr(json_value(Value(number_value=3.5))) == "3.5"
    assert repr(json_value(Value(number_value=1e300))) == "1e+300"


def test_no_value_is_none() -> None:
    assert json_value(Value()) is None
