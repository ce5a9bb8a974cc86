"""No value of a caller, a target or its output becomes syntax: every shipped tool, every text."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.hostile import (
    HOSTILE,
    MARK,
    differences,
    inputs_with,
    nasty,
    shaped,
    structure,
)
from opsconductor.tool_registry.formats import FORMATS, mismatch
from opsconductor.tool_registry.inputs import check_inputs
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.rendering.render import ArgvCommand, RenderError, render
from opsconductor.tool_registry.rendering.rendered import (
    HttpRequest,
    SqlStatement,
)

if TYPE_CHECKING:
    from opsconductor.tool_registry.model import Tool
    from opsconductor.tool_registry.rendering.rendered import Rendered

TOOLS = Registry.load().tools
TARGET = {
    "name": "web-01",
    "address": "10.0.0.1",
    "port": 443,
    "connection": "ssh",
    "service_manager": "systemd",
    "service_command": "/usr/local/bin/ctl",
    "environment": "test",
}
SECTIONS = ("command", "dry_run", "capture", "undo")


def target_of(tool: Tool) -> dict[str, Any] | None:
    given_ones = [example.target for example in tool.examples if example.target]
    return {**TARGET, **(given_ones[0] if given_ones else {})}


def captured_of(tool: Tool) -> dict[str, Any]:
    examples = [example.captured for example in tool.examples if example.captured]
    return dict(examples[0]) if examples else dict.fromkeys(_captured_names(tool), "1")


def _captured_names(tool: Tool) -> list[str]:
    spec = tool.capture.output if tool.capture else {}
    return list(spec.get("schema", {}).get("properties", {}))


def has(tool: Tool, section: str) -> bool:
    return {
        "command": True,
        "dry_run": tool.dry_run is not None,
        "capture": tool.capture is not None,
        "undo": tool.undo.command is not None,
    }[section]


def attempt(tool: Tool, inputs: dict[str, Any], section: str, **more: Any) -> Rendered | None:
    """Returns what is rendered, None when it is refused with a fault people can read."""
    given_ones: dict[str, Any] = {"target": target_of(tool), "captured": captured_of(tool), **more}
    target = given_ones.pop("target")
    try:
        return render(tool, inputs, target, section=section, **given_ones)  # type: ignore[arg-type]
    except RenderError as refused:
        require_readable(refused)
        return None


def require_readable(refused: RenderError) -> None:
    assert refused.message
    assert all(fault.code and fault.found.isprintable() for fault in refused.faults)


def texts(tool: Tool) -> list[str]:
    return [
        name
        for name, schema in tool.properties.items()
        if (schema["type"] == "string" and "enum" not in schema)
        or (schema["type"] == "array" and schema.get("items", {}).get("type") == "string")
        or schema["type"] == "object"
    ]


def require_data(tool: Tool, name: str, value: str, section: str) -> bool:
    """Requires that an input is refused or stands in MARK's place; returns whether it stands."""
    typed, faults = check_inputs(tool, inputs_with(tool, name, value))
    if faults:
        for fault in faults:
            assert fault.field.startswith(f"inputs.{name}"), str(fault)
            assert str(fault).isprintable(), str(fault)
        return False
    hostile = attempt(tool, typed, section)
    if hostile is None:
        return False
    marked = {**typed, name: shaped(tool.properties[name], MARK)}
    harmless = attempt(tool, marked, section)
    assert harmless is not None
    assert list(differences(structure(harmless), structure(hostile), value)) == []
    require_no_option(tool, harmless, hostile, name)
    return True


def require_no_option(tool: Tool, harmless: Rendered, hostile: Rendered, name: str) -> None:
    if not isinstance(hostile, ArgvCommand):
        return
    assert isinstance(harmless, ArgvCommand)
    if tool.risk_from is not None and tool.risk_from.parameter == name:
        return
    for number, (plain, word) in enumerate(zip(harmless.argv, hostile.argv, strict=True)):
        if plain.startswith(MARK) and word.startswith("-") and "--" not in hostile.argv[:number]:
            assert word[1:2].isdigit(), f"{word!r} is read as an option"
        assert not (number == 0 and MARK in plain), "the program is of the caller's choosing"


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_hostile_value_is_data_or_refused(tool: Tool) -> None:
    for section in filter(lambda one: has(tool, one), SECTIONS):
        for name in texts(tool):
            for value in HOSTILE:
                require_data(tool, name, value, section)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([(tool, name) for tool in TOOLS for name in texts(tool)]), nasty)
def test_any_text_is_data_or_refused(place: tuple[Tool, str], value: str) -> None:
    tool, name = place
    for section in filter(lambda one: has(tool, one), SECTIONS):
        require_data(tool, name, value, section)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_text_is_never_taken_for_a_number_a_switch_or_a_word_of_a_list(tool: Tool) -> None:
    for name, schema in tool.properties.items():
        if schema["type"] in ("integer", "number", "boolean") or "enum" in schema:
            for value in HOSTILE:
                _, faults = check_inputs(tool, inputs_with(tool, name, value))
                assert [fault.field for fault in faults] == [f"inputs.{name}"], value


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_what_was_never_checked_is_still_data_or_refused(tool: Tool) -> None:
    """Late inputs come from the output of other steps: rendering is the second lock."""
    for name in texts(tool):
        inputs = inputs_with(tool, name, MARK)
        harmless = attempt(tool, inputs, "command")
        for value in HOSTILE if harmless is not None else ():
            hostile = attempt(tool, inputs_with(tool, name, value), "command")
            if hostile is not None and not isinstance(hostile, SqlStatement):
                found = list(differences(structure(harmless), structure(hostile), value))  # type: ignore[arg-type]
                assert found == [], name


@pytest.mark.parametrize(
    "tool", [one for one in TOOLS if one.undo.command is not None], ids=lambda tool: tool.name
)
def test_what_a_target_said_is_data_in_the_undo(tool: Tool) -> None:
    inputs = dict(next(iter(tool.examples)).inputs)
    captured = captured_of(tool)
    for name in captured:
        harmless = attempt(tool, inputs, "undo", captured={**captured, name: MARK})
        for value in HOSTILE if harmless is not None else ():
            hostile = attempt(tool, inputs, "undo", captured={**captured, name: value})
            if hostile is not None:
                found = list(differences(structure(harmless), structure(hostile), value))  # type: ignore[arg-type]
                assert found == [], (name, value)
                require_no_option(tool, harmless, hostile, name)  # type: ignore[arg-type]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_an_asset_record_cannot_change_a_command(tool: Tool) -> None:
    inputs, _ = check_inputs(tool, dict(next(iter(tool.examples)).inputs))
    for name in ("name", "address", "environment"):
        harmless = attempt(tool, inputs, "command", target={**(target_of(tool) or {}), name: MARK})
        for value in HOSTILE if harmless is not None else ():
            target = {**(target_of(tool) or {}), name: value}
            hostile = attempt(tool, inputs, "command", target=target)
            if hostile is not None and value:
                found = list(differences(structure(harmless), structure(hostile), value))  # type: ignore[arg-type]
                assert found == [], (name, value)
                require_no_option(tool, harmless, hostile, name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "tool", [one for one in TOOLS if one.method == "http"], ids=lambda tool: tool.name
)
def test_a_value_stays_in_its_own_part_of_an_address(tool: Tool) -> None:
    """Everything but the value is what a harmless call asks for, as an independent reader sees."""
    for name in texts(tool):
        if tool.command["http"]["url"] == f"{{{name}}}":
            continue
        harmless = attempt(tool, inputs_with(tool, name, MARK), "command")
        for value in (*HOSTILE, ".", ".."):
            hostile = attempt(tool, inputs_with(tool, name, value), "command")
            if isinstance(hostile, HttpRequest) and isinstance(harmless, HttpRequest):
                found = list(differences(_asked(harmless), _asked(hostile), value))
                assert found == [], (name, value)


def _asked(request: HttpRequest) -> tuple[Any, ...]:
    parts = urlsplit(request.url)
    query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    return (
        request.method,
        (parts.scheme, parts.netloc, parts.fragment),
        [unquote(part) for part in posixpath.normpath(parts.path).split("/")],
        query,
        [(key, "".join(text.splitlines())) for key, text in request.headers],
    )


@pytest.mark.parametrize(
    "tool",
    [one for one in TOOLS if "sql" in one.command],
    ids=lambda tool: tool.name,
)
def test_a_value_is_never_in_the_text_of_a_statement_but_as_one_name(tool: Tool) -> None:
    free = tool.risk_from.parameter if tool.risk_from else ""
    for name in texts(tool):
        for value in HOSTILE if name != free else ():
            call = attempt(tool, inputs_with(tool, name, value), "command")
            harmless = attempt(tool, inputs_with(tool, name, MARK), "command")
            if call is None or harmless is None:
                continue
            assert isinstance(call, SqlStatement)
            assert isinstance(harmless, SqlStatement)
            dialect = {"postgresql": "postgres"}.get(call.dialect, call.dialect)
            if call.statement != harmless.statement:
                parts = value.split(".")
                assert _names(call.statement, dialect, parts) == _names(
                    harmless.statement, dialect, [MARK]
                ), (name, value)


def _names(statement: str, dialect: str, parts: list[str]) -> tuple[list[str], int]:
    """Returns the tokens of a statement but for the names that stand for the value."""
    tokens = sqlglot.tokenize("SELECT " + statement, read=dialect)
    words = [(token.token_type.name, token.text) for token in tokens]
    wanted = [("IDENTIFIER", part) for part in parts]
    joined = [wanted[0]]
    for one in wanted[1:]:
        joined += [("DOT", "."), one]
    rest, count, position = [], 0, 0
    while position < len(words):
        if words[position : position + len(joined)] == joined:
            count, position = count + 1, position + len(joined)
            rest.append("NAME")
        else:
            rest.append(f"{words[position][0]} {words[position][1]}")
            position += 1
    return rest, count


@pytest.mark.parametrize(
    "tool", [one for one in TOOLS if "script" in one.command], ids=lambda tool: tool.name
)
def test_what_is_not_given_moves_no_other_argument_of_a_script(tool: Tool) -> None:
    words = tool.command["script"].get("args", [])
    optional = [
        word
        for word in words[:-1]
        if isinstance(word, str)
        and word[1:-1] in tool.properties
        and word[1:-1] not in tool.required
        and "default" not in tool.properties[word[1:-1]]
    ]
    assert optional == []


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_format_judges_any_length_at_once(name: str) -> None:
    """One that tries every way to split a text would never come back from these."""
    for text in ("a", "a.", "a-", "a/", "1", "1.", "a\\", "C:\\a", "a,", "a=b,", " "):
        for end in ("", "\x01", "!", '"', "\u00e9"):
            mismatch(name, text * 4000 + end)
            mismatch(name, "C:\\" + text * 60 + end)
