"""Shows structured data: fields and tables instead of a program's own text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from opsconductor.cli import formats

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opsconductor.cli.terminal import Terminal

_DATA_PARSERS = frozenset({"json", "jsonlines", "kv", "regex", "table", "jc"})
_TEXT = frozenset({"text", "truncated"})
_MOST_ROWS = 25
_LONG_CELL = 60
_WIDEST_COLUMN = 40


def is_structured(value: object) -> bool:
    """Tells whether an output is more than the text of a program."""
    return isinstance(value, list) or (
        isinstance(value, dict) and bool(value) and not ("text" in value and set(value) <= _TEXT)
    )


def answers_data(definition: bytes) -> bool:
    """Tells whether a tool's output is more than the text of a program."""
    import yaml

    try:
        output = yaml.safe_load(definition)["output"]
        names = set(_names(output.get("schema")))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False
    if names:
        return bool(names - _TEXT)
    return output.get("parser") in _DATA_PARSERS


def column_order(definition: bytes) -> list[str]:
    """Returns the names in a tool's output schema as its author wrote them down.

    The schema itself comes as a protobuf Struct, which knows no order.
    """
    import yaml

    try:
        document = yaml.safe_load(definition)
        schema = document["output"]["schema"]
    except (yaml.YAMLError, KeyError, TypeError):
        return []
    return list(_names(schema))


def show_data(terminal: Terminal, value: Any, order: Sequence[str] = ()) -> None:
    """Writes a structured output: single values as fields, lists of objects as tables.

    Args:
        terminal: Where to.
        value: The output.
        order: Names in the order they are to be shown; others follow by the alphabet.
    """
    if isinstance(value, list):
        value = {"": value}
    names = _sorted(value, order)
    fields = [name for name in names if not _is_rows(value[name])]
    terminal.fields(
        [
            (_title(name), "none" if value[name] == [] else _cell(name, value[name]))
            for name in fields
        ]
    )
    tables = [name for name in names if name not in fields]
    for name in tables:
        if fields or len(tables) > 1:
            terminal.say(f"\n{_title(name)}" if fields else _title(name), style="bold")
        _show_rows(terminal, value[name], order)


def _show_rows(terminal: Terminal, rows: list[dict[str, Any]], order: Sequence[str]) -> None:
    names = [
        name
        for name in _sorted({name: None for row in rows for name in row}, order)
        if any(row.get(name) not in (None, "", [], {}) for row in rows)
    ]
    cells = [[_shortened(_cell(name, row.get(name))) for name in names] for row in rows]
    if not order:
        # Without an author's order long text comes last, where it breaks nothing.
        widths = [max(len(row[index]) for row in cells) for index in range(len(names))]
        turn = sorted(
            range(len(names)), key=lambda at: (widths[at] > _WIDEST_COLUMN, names[at] != "name")
        )
        names = [names[at] for at in turn]
        cells = [[row[at] for at in turn] for row in cells]
    terminal.table([_title(name).upper() for name in names], cells[:_MOST_ROWS])
    if len(rows) > _MOST_ROWS:
        terminal.say(f"… and {len(rows) - _MOST_ROWS} more; -o json shows all")


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and value != [] and all(type(item) is dict for item in value)


def _names(schema: object) -> Iterable[str]:
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    for name, inner in properties.items() if isinstance(properties, dict) else ():
        yield str(name)
        yield from _names(inner)
    yield from _names(schema.get("items"))


def _sorted(value: Mapping[str, Any], order: Sequence[str]) -> list[str]:
    place = {name: number for number, name in reversed(list(enumerate(order)))}
    return sorted(value, key=lambda name: (place.get(name, len(place)), name))


def _title(name: str) -> str:
    for unit in ("_bytes", "_percent"):
        name = name.removesuffix(unit)
    return name.replace("_", " ")


def _cell(name: str, value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() if name.endswith("_bytes") and value >= 0:
            return formats.size(value)
        case int() | float() if name.endswith("_percent"):
            return f"{value} %"
        case dict():
            return "\n".join(f"{key} {_cell(key, item)}" for key, item in sorted(value.items()))
        case list():
            return ", ".join(_cell("", item) for item in value)
        case str():
            return value.rstrip("\n")
        case _:
            return json.dumps(value)


def _shortened(text: str) -> str:
    line = text.replace("\n", ", ")
    return line if len(line) <= _LONG_CELL else f"{line[: _LONG_CELL - 1]}…"
