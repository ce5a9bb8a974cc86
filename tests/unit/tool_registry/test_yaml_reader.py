from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.tool_registry.documents import yaml_reader

LIMIT = 1_048_576


def codes(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    return [fault.code for fault in yaml_reader.load(data, max_bytes=LIMIT)[2]]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: 1\nb:\n  - !!python/object/apply:os.system [id]\n", "YAML_TAG_FORBIDDEN"),
        ("a: !!str 1\n", "YAML_TAG_FORBIDDEN"),
        ("%TAG ! tag:example.com,2000:\n---\na: 1\n", "YAML_TAG_FORBIDDEN"),
        ("a: &x [1]\nb: *x\n", "YAML_ALIAS_LIMIT"),
        ("a: *nothing\n", "YAML_ALIAS_LIMIT"),
        ("a: {b: 1}\n<<: {c: 1}\n", "YAML_MERGE_FORBIDDEN"),
        ("a: 1\na: 2\n", "DUPLICATE_KEY"),
        ("a: 1\n'a': 2\n", "DUPLICATE_KEY"),
        ("a: 1\n---\nb: 2\n", "ONE_DOCUMENT_EXPECTED"),
        ("- a\n- b\n", "ONE_DOCUMENT_EXPECTED"),
        ("just text\n", "ONE_DOCUMENT_EXPECTED"),
        ("", "EMPTY_FILE"),
        ("# only a comment\n", "EMPTY_FILE"),
        ("---\n", "EMPTY_FILE"),
        ("a:\n\t- b\n", "ENCODING"),
        ("a: b\x85\n", "ENCODING"),
        ("a: b\u2028\n", "ENCODING"),
        ("a: b\x00\n", "ENCODING"),
        (b"\xef\xbb\xbfa: 1\n", "ENCODING"),
        ("a: 1\n".encode("utf-16"), "ENCODING"),
        (b"a: \xff\n", "ENCODING"),
        ("a: .nan\n", "NUMBER"),
        ("a: NaN\n", "NUMBER"),
        ("a: 1e999\n", "NUMBER"),
        ("a: 12345678901234567890\n", "NUMBER"),
        ("a: 9007199254740992\n", "NUMBER"),
        ("a: -0\n", "NUMBER"),
        ("a: -0.0\n", "NUMBER"),
        ("1: a\n", "TYPE"),
        ("? [a]\n: b\n", "TYPE"),
        ("a: [1\n", "YAML_SYNTAX"),
        ('{"a": NaN}', "NUMBER"),
        ('{"a": 1, "a": 2}', "DUPLICATE_KEY"),
        ('{"a": 12345678901234567890}', "NUMBER"),
        ('{"a": "\\ud800"}', "ENCODING"),
        ("{" + '"a": {' * 3000 + "}" * 3001, "PLAN_TOO_LARGE"),
        ("a: " + "[" * 200 + "]" * 200, "PLAN_TOO_LARGE"),
        ("a: [" + "1," * 250_000 + "]", "PLAN_TOO_LARGE"),
    ],
)
def test_what_readers_disagree_on_is_refused_by_code(text: str | bytes, code: str) -> None:
    assert codes(text) == [code]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("22:30", "22:30"),
        ("2026-01-01", "2026-01-01"),
        ("010", 10),
        ("0o10", 8),
        ("0x1f", 31),
        ("1.0", 1.0),
        ("1e3", 1000.0),
        ("~", None),
        ("true", True),
        ("'true'", "true"),
        ("1_000", "1_000"),
        ("=", "="),
    ],
)
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(written: str, value: object) -> None:
    document, _, faults = yaml_reader.load(f"a: {written}\n".encode(), max_bytes=LIMIT)
    assert faults == []
    assert document == {"a": value}
    assert document is not None
    assert type(document["a"]) is type(value)


def test_faults_and_values_know_their_lines() -> None:
    text = "name: x\nsteps:\n  - id: a\n    inputs:\n      count: .inf\n  - id: b\n"
    document, lines, faults = yaml_reader.load(text.encode(), max_bytes=LIMIT)
    assert document == {"name": "x", "steps": [{"id": "a", "inputs": {"count": None}}, {"id": "b"}]}
    assert lines["steps[0].inputs.count"] == 5
    assert lines["steps[1]"] == 6
    assert [(fault.field, fault.line) for fault in faults] == [("steps[0].inputs.count", 5)]


def test_a_document_beyond_the_limit_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml_reader, "_decoded")  # whoever reads it meets an error
    value, _, faults = yaml_reader.load(b"a: " + b"x" * LIMIT, max_bytes=LIMIT)
    assert value is None
    assert [fault.code for fault in faults] == ["PLAN_TOO_LARGE"]


def test_a_billion_laughs_are_not_laughed() -> None:
    text = 'a: &a ["lol","lol"]\n' + "".join(f"b{n}: &b{n} [*a,*a,*a]\n" for n in range(20))
    assert codes(text) == ["YAML_ALIAS_LIMIT"]


def test_json_with_tabs_and_escapes_is_read_as_json() -> None:
    document, _, faults = yaml_reader.load(b'{\n\t"a": "\\/\\ud83d\\ude00"\n}\n', max_bytes=LIMIT)
    assert faults == []
    assert document == {"a": "/\N{GRINNING FACE}"}


def test_flow_style_yaml_is_not_taken_for_broken_json() -> None:
    document, lines, faults = yaml_reader.load(b"{a: b,\n c: [1, 2]}", max_bytes=LIMIT)
    assert faults == []
    assert document == {"a": "b", "c": [1, 2]}
    assert lines["c"] == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=8), json_values, min_size=1, max_size=5))
def test_every_json_document_reads_back(document: dict[str, object]) -> None:
    data = json.dumps(document).encode()
    value, _, faults = yaml_reader.load(data, max_bytes=LIMIT)
    assert faults == []
    assert value == document


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_raise(data: bytes) -> None:
    value, _, faults = yaml_reader.load(data, max_bytes=LIMIT)
    assert value is not None or faults


@given(st.text(alphabet="{}[]:,-? &*!|>'\"%@`#ab1\n\t~<", max_size=60))
def test_no_syntax_makes_the_reader_raise(text: str) -> None:
    value, _, faults = yaml_reader.load(text.encode(), max_bytes=LIMIT)
    assert value is not None or faults


@pytest.mark.parametrize("text", ["- a: 1\n- b: 2\n", '[{"a": 1}, {"b": 2}]'])
def test_a_list_is_read_where_a_collection_is_wanted(text: str) -> None:
    value, _, faults = yaml_reader.load_collection(text.encode(), max_bytes=LIMIT)
    assert value == [{"a": 1}, {"b": 2}]
    assert faults == []
    assert codes(text) == ["ONE_DOCUMENT_EXPECTED"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("- a\n- &x b\n", "YAML_ALIAS_LIMIT"),
        ("just text\n", "ONE_DOCUMENT_EXPECTED"),
        ("# nothing\n", "EMPTY_FILE"),
        ("[1, 1e999]", "NUMBER"),
        ("[" * 200 + "]" * 200, "PLAN_TOO_LARGE"),
    ],
)
def test_a_collection_is_read_as_strictly_as_a_mapping(text: str, code: str) -> None:
    faults = yaml_reader.load_collection(text.encode(), max_bytes=LIMIT)[2]
    assert [fault.code for fault in faults] == [code]
