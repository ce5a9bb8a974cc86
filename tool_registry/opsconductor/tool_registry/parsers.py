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
    cut, truncated = cut_text(text.replace("\0", "\ufffd"), MAX_BYTES)
    return {name: cut, "truncated": True} if truncated else {name: cut}


def parse_lines(text: str, spec: Spec) -> dict[str, Any]:
    """Returns the lines as a list."""
    return bounded(spec.get("field", "lines"), text.splitlines())


def parse_json(text: str, spec: Spec) -> dict[str, Any]:
    """Returns one JSON object; another value is put under the field's name."""
    value = _read_json(text)
    if isinstance(value, dict):
        if len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) > MAX_BYTES:
            raise OutputUnparsable(f"the JSON object is larger than {MAX_BYTES} bytes")
        return value
    if isinstance(value, list):
        return bounded(spec.get("field", "items"), value)
    return {spec.get("field", "value"): value}


def parse_jsonlines(text: str, spec: Spec) -> dict[str, Any]:
    """Returns one JSON value a line as a list."""
    items = [_read_json(line) for line in text.splitlines() if line.strip()]
    return bounded(spec.get("field", "items"), items)


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
    return bounded(spec["field"], rows)


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
    try:
        match schema.get("type"):
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


def cut_text(text: str, limit: int) -> tuple[str, bool]:
    """Returns text of at most so many UTF-8 bytes, and whether it was cut."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text, False
    return data[:limit].decode("utf-8", "ignore"), True


def bounded(name: str, items: list[Any]) -> dict[str, Any]:
    """Returns the list under its name, cut to the limits with ``truncated: true``."""
    kept: list[Any] = []
    size = 0
    for item in items:
        size += len(json.dumps(item, ensure_ascii=False).encode("utf-8", "replace")) + 1
        if size > MAX_BYTES or len(kept) == MAX_ITEMS:
            return {name: kept, "truncated": True, "total_count": len(items)}
        kept.append(item)
    return {name: kept}


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
