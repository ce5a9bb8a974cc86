"""Values that attack whatever reads them as syntax, and a comparison that sees when one did."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opsconductor.tool_registry.model import Tool
    from opsconductor.tool_registry.rendering.rendered import Rendered

HOSTILE = (
    "-rf", "--help", "--output=/etc/passwd", "-oProxyCommand=id", "-", "--", "-1x",
    "; id", "a;id", "| id", "&& id", "a&id", "$(id)", "`id`", "${IFS}", "$HOME", "%PATH%", "^a",
    "'", '"', "''", "';id;'", '";id;"', "\\", "\\'", "a\\", "'\\''",
    "\u2018;id;\u2018", "\u2019;id;\u2019", "\u201a;id", "\u201b;id", "\u201cx\u201d", "\u2013x",
    "a\nid", "a\r\nX-Injected: 1", "\n", "a\tb", "a\0b", "\0", "a\x1b[2Jb", "a\x7fb", "a\x85b",
    "a\u2028id", "a\u2029id", "a\u202eb", "\u200bx", "\ufeffx", "\ud800x", "e\u0301", "\u0430dmin",
    "file:///etc/passwd", "fileb:///etc/passwd", "http://169.254.169.254/", "@/etc/passwd", "@-",
    "{path}", "{{path}}", "{{", "}}", "{target.address}", "${{ inputs.path }}", "%s%n", "{0}",
    "*", "?", "[a-z]*", "~root", "../../etc/passwd", "/../etc/shadow", "C:\\a\\..\\b", "a b",
    "", " ", "#x", "!x", "=x", "+x", ",x", "a=b,c=d", "a/b", "a%2fb", "?x=y", "#frag", "a@b",
    "x' OR '1'='1", "1; DROP TABLE a", 'a"."b', "a`b", "a--", "/*x*/", "dbname=x host=y",
    "postgresql://evil/x", "a.b.c", "<!channel>", "<b>&", "x" * 5000, "\U0001f600",
)  # fmt: skip
"""One of each family that some reader takes for more than data."""

MARK = "Qz7mark"
"""A harmless text that stands nowhere else."""

nasty = st.one_of(
    st.text(
        alphabet=st.one_of(
            st.sampled_from("-'\"`$!*?[]{}()<>|&;#~%^=,@+:\\/. \n\r\t\0\u2018\u2019\u201a\u201b"),
            st.characters(),
        ),
        max_size=40,
    ),
    st.builds("{}{}{}".format, *[st.sampled_from([*HOSTILE, "a", ""])] * 3),
)
"""Texts of sigils, and hostile values put together."""


def texts_of(value: Any) -> Iterator[str]:
    """Yields every text in a structure, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode()
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts_of(key)
            yield from texts_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_of(item)


def inputs_with(tool: Tool, name: str, value: str) -> dict[str, Any]:
    """Returns inputs as an example of the tool has them, one of them the value."""
    examples = sorted(tool.examples, key=lambda one: name not in one.inputs)
    inputs = copy.deepcopy(dict(examples[0].inputs))
    inputs[name] = shaped(tool.properties[name], value)
    return inputs


def shaped(schema: Mapping[str, Any], value: str) -> Any:
    """Returns the value inside what its parameter takes: a list, a mapping, or itself."""
    if schema["type"] == "array":
        return ["first", value]
    if schema["type"] == "object":
        return {"key": value}
    return value


def structure(rendered: Rendered) -> dict[str, Any]:
    """Returns everything a rendered call holds."""
    return {"kind": type(rendered).__name__, **dataclasses.asdict(rendered)}


ENCODINGS: tuple[Callable[[str], str], ...] = (
    str,
    lambda value: quote(value, safe=""),
    quote_plus,
    lambda value: _json_text(value),
    lambda value: '"' + value.replace('"', '""') + '"',
    lambda value: "`" + value.replace("`", "``") + "`",
)


def differences(harmless: Any, hostile: Any, value: str, where: str = "") -> Iterator[str]:
    """Yields where two structures differ in more than the value standing in MARK's place."""
    if type(harmless) is not type(hostile):
        yield f"{where}: {harmless!r} became {hostile!r}"
    elif isinstance(harmless, dict):
        yield from differences(list(harmless), list(hostile), value, f"{where} keys")
        for key in harmless.keys() & hostile.keys():
            yield from differences(harmless[key], hostile[key], value, f"{where}.{key}")
    elif isinstance(harmless, list | tuple):
        if len(harmless) != len(hostile):
            yield f"{where}: {harmless!r} became {hostile!r}"
        for number, pair in enumerate(zip(harmless, hostile, strict=False)):
            yield from differences(*pair, value, f"{where}[{number}]")
    elif isinstance(harmless, bytes):
        yield from differences(harmless.decode(), hostile.decode(), value, where)
    else:
        yield from _other(harmless, hostile, value, where)


def _other(harmless: Any, hostile: Any, value: str, where: str) -> Iterator[str]:
    if isinstance(harmless, str) and MARK in harmless:
        if hostile not in (expected := {form(harmless, value) for form in _FORMS}):
            yield f"{where}: {hostile!r} is none of {sorted(expected)}"
    elif harmless != hostile:
        yield f"{where}: {harmless!r} became {hostile!r}"


def _json_text(value: str) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)[1:-1]


def _form(encode: Callable[[str], str]) -> Callable[[str, str], str]:
    def fill(template: str, value: str) -> str:
        quoted = encode(MARK)
        return template.replace(quoted if quoted in template else MARK, encode(value))

    return fill


_FORMS = tuple(map(_form, ENCODINGS))
