"""The fields of an output, as ``opsctl tools show`` lists them."""

from __future__ import annotations

from opsconductor.cli.tool_output import rows, type_of

SCHEMA = {
    "type": "object",
    "properties": {
        "truncated": {"type": "boolean", "description": "whether it was cut"},
        "disks": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "size": {"type": "integer", "description": "bytes"},
                    "label": {"type": ["string", "null"], "description": "label"},
                    "flags": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def test_members_of_lists_and_objects_stand_under_their_path() -> None:
    assert [path for path, _, _ in rows(SCHEMA)] == [
        "disks",
        "disks[].flags",
        "disks[].label",
        "disks[].size",
        "tags",
        "tags.*",
        "truncated",
    ]


def test_the_authors_order_comes_first() -> None:
    found = [path for path, _, _ in rows(SCHEMA, ["disks", "size", "label"])]
    assert found[:3] == ["disks", "disks[].size", "disks[].label"]


def test_types_are_told_in_words() -> None:
    told = {path: (kind, meaning) for path, kind, meaning in rows(SCHEMA)}
    assert told["disks"] == ("list of object", "")
    assert told["disks[].label"] == ("string | null", "label")
    assert told["disks[].flags"] == ("list of string", "")
    assert told["truncated"] == ("boolean", "whether it was cut")
    assert type_of({"enum": ["open", "closed"]}) == "open | closed"
    assert type_of({}) == "any"


def test_an_output_without_fields_has_no_rows() -> None:
    assert rows({"type": "object"}) == []
