"""Parsers that turn a program's output into data; each takes text and the tool's output section."""

from __future__ import annotations

import base64
import binascii
import csv
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

MAX_BYTES = 65_536
"""Most bytes of parsed output, as JSON; it travels in a report and is kept in the event log."""
MAX_INPUT = 1_048_576
"""Most bytes of raw output a parser looks at."""
MAX_LINE = 4_096
"""Longest row a pattern is tried on, because its author did not write the output."""
MAX_JSON = 524_288
"""Most bytes of parsed output when every character has to be escaped."""
MAX_ITEMS = 5_000
"""Most rows of a parsed list."""


class OutputUnparsable(ValueError):
    """The output is not what the tool's definition says; the message tells where."""


Spec = Mapping[str, Any]
Parser = Callable[[str, Spec], dict[str, Any]]


def parse_text(text: str, spec: Spec) -> dict[str, Any]:
    """Returns the text itself, cut to the limit."""
    name = spec.get("field", "text")
    # Like bytes that are no UTF-8: only this copy changes, the stored output keeps every byte.
    cut, truncated = cut_text(text.replace("\0", "\ufffd"), MAX_BYTES, last=_keeps_last(spec))
    return {name: cut, "truncated": True} if truncated else {name: cut}


def parse_lines(text: str, spec: Spec) -> dict[str, Any]:
    """Returns the lines as a list."""
    return bounded(spec.get("field", "lines"), text.splitlines(), last=_keeps_last(spec))


def parse_json(text: str, spec: Spec) -> dict[str, Any]:
    """Returns one JSON object; another value is put under the field's name.

    Of an object beyond the limit the longest list is cut.
    """
    value = _read_json(text)
    if isinstance(value, dict):
        return value if _size(value) <= MAX_BYTES else _with_list_cut(value, spec)
    if isinstance(value, list):
        return bounded(spec.get("field", "items"), value, last=_keeps_last(spec))
    return {spec.get("field", "value"): value}


def parse_jsonlines(text: str, spec: Spec) -> dict[str, Any]:
    """Returns one JSON value a line as a list."""
    items = [_read_json(line) for line in text.splitlines() if line.strip()]
    return bounded(spec.get("field", "items"), items, last=_keeps_last(spec))


def parse_kv(text: str, spec: Spec) -> dict[str, Any]:
    """Returns ``name=value`` lines as an object, values typed by the output schema."""
    separator = spec.get("separator", "=")
    properties: Mapping[str, Any] = spec.get("schema", {}).get("properties", {})
    result: dict[str, Any] = {}
    for line in text.splitlines():
        name, found, value = line.partition(separator)
        name = name.strip()
        if found and (not properties or name in properties):
            result[name] = typed(value.strip(), properties.get(name, {}))
    return result


def parse_regex(text: str, spec: Spec) -> dict[str, Any]:
    """Returns named groups: of each matching line with ``field``, else of the first match."""
    pattern = re.compile(spec["pattern"], re.MULTILINE)
    schema: Mapping[str, Any] = spec.get("schema", {})
    if "field" not in spec:
        found = pattern.search(text)
        if found is None:
            raise OutputUnparsable("the output does not match the tool's pattern")
        return _groups(found, schema.get("properties", {}))
    row_schema = schema.get("properties", {}).get(spec["field"], {}).get("items", {})
    properties = row_schema.get("properties", {})
    rows = [
        _groups(found, properties)
        for line in text.splitlines()
        if (found := pattern.fullmatch(line[:MAX_LINE])) is not None
    ]
    return bounded(spec["field"], rows, last=_keeps_last(spec))


def parse_table(text: str, spec: Spec) -> dict[str, Any]:
    """Returns rows of separated values (tabs unless named), read as RFC 4180 with a comma.

    A row with fewer or more values than columns is an error: values would stand under wrong names.
    """
    columns: list[str] = spec["columns"]
    separator = spec.get("separator", "\t")
    field = spec.get("field", "rows")
    row_schema = spec.get("schema", {}).get("properties", {}).get(field, {}).get("items", {})
    properties = row_schema.get("properties", {})
    if separator == ",":
        lines = list(csv.reader(text.splitlines()))
    else:
        lines = [line.split(separator) for line in text.splitlines()]
    rows = []
    for number, values in enumerate(lines, 1):
        if not any(values) or values == columns:
            continue
        if len(values) != len(columns):
            raise OutputUnparsable(
                f"line {number} has {len(values)} values, expected {len(columns)}: "
                + ", ".join(columns)
            )
        rows.append(
            {
                name: typed(value, properties.get(name, {}))
                for name, value in zip(columns, values, strict=True)
            }
        )
    return bounded(field, rows)


def parse_jc(text: str, spec: Spec) -> dict[str, Any]:
    """Returns what jc's named parser makes of the text."""
    import jc  # loaded only by the tools that use it

    try:
        value: Any = jc.parse(spec["jc_parser"], text, quiet=True)
    except Exception as exc:
        raise OutputUnparsable(f"jc parser {spec['jc_parser']}: {exc}") from exc
    value = _with_lists(value, frozenset(spec.get("lists", ())))
    if isinstance(value, list):
        return bounded(spec.get("field", "items"), value)
    return dict(value)


def parse_none(text: str, spec: Spec) -> dict[str, Any]:
    """Returns nothing: the tool's output means nothing to a program."""
    return {}


PARSERS: Mapping[str, Parser] = {
    "text": parse_text,
    "lines": parse_lines,
    "json": parse_json,
    "jsonlines": parse_jsonlines,
    "kv": parse_kv,
    "regex": parse_regex,
    "table": parse_table,
    "jc": parse_jc,
    "none": parse_none,
}
"""Every parser by the name tools use."""


def content(data: bytes, name: str) -> dict[str, Any]:
    """Returns a file's bytes as text, or as base64 when they are not UTF-8."""
    try:
        return {name: data.decode("utf-8"), f"{name}_encoding": "utf-8"}
    except UnicodeDecodeError:
        encoded = base64.b64encode(data).decode("ascii")
        return {name: encoded, f"{name}_encoding": "base64"}


def typed(text: str, schema: Mapping[str, Any]) -> Any:
    """Returns a word as the type the schema names; words that are none become null for numbers."""
    kind = schema.get("type")
    try:
        match kind[0] if isinstance(kind, list) else kind:
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean":
                return text.lower() in ("true", "yes", "1", "on", "active")
    except ValueError:
        return None
    return text


def decoded_base64(text: str) -> bytes:
    """Returns the bytes; raises OutputUnparsable."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise OutputUnparsable(f"not base64: {exc}") from exc


def cut_text(text: str, limit: int, *, last: bool = False) -> tuple[str, bool]:
    """Returns text of at most so many UTF-8 bytes, and whether it was cut."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text, False
    return (data[-limit:] if last else data[:limit]).decode("utf-8", "ignore"), True


def bounded(
    name: str, items: list[Any], *, last: bool = False, room: int = MAX_BYTES
) -> dict[str, Any]:
    """Returns the list under its name; one beyond the limits loses its end, or its beginning.

    Args:
        name: What the list is called.
        items: The list.
        last: Whether the end of it is kept.
        room: How many bytes there are.
    """
    kept: list[Any] = []
    size = 0
    for item in reversed(items) if last else items:
        size += _size(item) + 2
        if size > room or len(kept) == MAX_ITEMS:
            left = kept[::-1] if last else kept
            return {name: left, "truncated": True, "total_count": len(items)}
        kept.append(item)
    return {name: kept[::-1] if last else kept}


def _with_list_cut(value: dict[str, Any], spec: Spec) -> dict[str, Any]:
    """Returns an object that fits, without the end of its longest list."""
    lists = [name for name, item in value.items() if isinstance(item, list)]
    longest = max(lists, key=lambda name: _size(value[name]), default="")
    others = {name: item for name, item in value.items() if name != longest}
    room = MAX_BYTES - _size(others)
    if not lists or room <= 0:
        raise OutputUnparsable(f"the JSON object is larger than {MAX_BYTES} bytes")
    return {**others, **bounded(longest, value[longest], last=_keeps_last(spec), room=room)}


def _keeps_last(spec: Spec) -> bool:
    return bool(spec.get("keep") == "last")


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _with_lists(value: Any, names: frozenset[str]) -> Any:
    """Returns a document in which the elements of these names are lists, also where one stands."""
    if not names:
        return value
    if isinstance(value, list):
        return [_with_lists(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    read = {name: _with_lists(item, names) for name, item in value.items()}
    return {
        name: [item] if name in names and not isinstance(item, list) else item
        for name, item in read.items()
    }


def _groups(found: re.Match[str], properties: Mapping[str, Any]) -> dict[str, Any]:
    values = (
        (name, typed(text, properties.get(name, {})))
        for name, text in found.groupdict().items()
        if text is not None
    )
    return {name: value for name, value in values if value is not None}


def _read_json(text: str) -> Any:
    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as exc:
        raise OutputUnparsable(f"not JSON: {exc}") from exc
