"""The PowerShell of shipped tools, read for the mistakes people make in it; there is no Windows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from opsconductor.tool_registry.references import references
from opsconductor.tool_registry.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opsconductor.tool_registry.model import Tool

REGISTRY = Registry.load()
WINDOWS = [tool for tool in REGISTRY.tools if tool.category == "windows"]
AUTOMATIC = {
    "args", "consolefilename", "error", "event", "eventargs", "eventsubscriber",
    "executioncontext", "false", "foreach", "home", "host", "input", "iscoreclr", "islinux",
    "ismacos", "iswindows", "lastexitcode", "matches", "myinvocation", "nestedpromptlevel",
    "null", "pid", "profile", "psboundparameters", "pscmdlet", "pscommandpath", "psculture",
    "psdebugcontext", "pshome", "psitem", "psscriptroot", "pssenderinfo", "psuiculture",
    "psversiontable", "pwd", "sender", "shellid", "stacktrace", "switch", "this", "true",
}  # fmt: skip
_VALUE = re.compile(r"'(?:[^']|'')*'")
_DECLARED = re.compile(r"\[(string|long|bool)\]\$([A-Za-z_]+)")
_ASSIGNED = re.compile(r"\$([A-Za-z_]\w*)\s*=(?!=)")


def scripts(tool: Tool) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Yields every script of a tool: its text, its parameters, and the section it is of."""
    sections = {
        "command": tool.command,
        "dry_run": tool.dry_run.command if tool.dry_run else {},
        "capture": tool.capture.command if tool.capture else {},
        "undo": tool.undo.command or {},
    }
    for section, template in sections.items():
        for case in template.get("cases", {"": template}).values():
            if "powershell" in case and "body" in case["powershell"]:
                yield case["powershell"]["body"], case["powershell"].get("parameters", {}), section


ALL = [
    pytest.param(tool, *script, id=f"{tool.name}-{script[2]}-{number}")
    for tool in WINDOWS
    for number, script in enumerate(scripts(tool))
]
every_script = pytest.mark.parametrize(("tool", "body", "parameters", "section"), ALL)


@every_script
def test_a_script_declares_the_parameters_it_gets_and_uses_them(
    tool: Tool, body: str, parameters: Mapping[str, Any], section: str
) -> None:
    head = re.match(r"param\((.*)\)\n", body)
    declared = [name for _, name in _DECLARED.findall(head[1])] if head else []
    assert declared == list(parameters)
    rest = body[head.end() :] if head else body
    for name in declared:
        assert re.search(rf"\${name}\b|'{name}'", rest), f"{name} is not used"
    used = {name.lower() for name in re.findall(r"\$([A-Za-z_]\w*)(?!\w*:)", _VALUE.sub("", rest))}
    made = {name.lower() for name in _ASSIGNED.findall(rest)}
    foreach = {name.lower() for name in re.findall(r"foreach\(\$(\w+) in", rest)}
    known = {*map(str.lower, declared), *made, *foreach, "_", "env"} | AUTOMATIC
    assert used <= known, used - known


@every_script
def test_a_type_of_a_parameter_is_that_of_its_input(
    tool: Tool, body: str, parameters: Mapping[str, Any], section: str
) -> None:
    kinds = {name: kind for kind, name in _DECLARED.findall(body.partition("\n")[0])}
    for name, value in parameters.items():
        assert value == f"{{{name}}}" or value == f"{{captured.{name}}}"
        if value == f"{{{name}}}":
            wanted = {"string": "string", "integer": "long", "boolean": "bool"}
            assert kinds[name] == wanted[tool.properties[name]["type"]]


@every_script
def test_what_is_not_given_is_looked_at_before_it_is_used(
    tool: Tool, body: str, parameters: Mapping[str, Any], section: str
) -> None:
    """An absent text is '' and an absent number 0 to a typed parameter."""
    for name in parameters:
        schema = tool.properties.get(name, {})
        if name in tool.required or "default" in schema or name not in tool.properties:
            continue
        if schema["type"] == "string":
            assert re.search(rf"-not \${name} -or|if\(\${name}\)", body), name
        else:
            assert f"$PSBoundParameters.ContainsKey('{name}')" in body, name


@every_script
def test_no_automatic_variable_is_assigned(
    tool: Tool, body: str, parameters: Mapping[str, Any], section: str
) -> None:
    assigned = {*_ASSIGNED.findall(_VALUE.sub("''", body)), *parameters}
    assert not {name.lower() for name in assigned} & AUTOMATIC


@every_script
def test_no_text_is_read_as_a_script_and_no_value_as_a_pattern(
    tool: Tool, body: str, parameters: Mapping[str, Any], section: str
) -> None:
    code = _VALUE.sub("''", body)
    forbidden = r"Invoke-Expression|\biex\b|-Command\b|Start-Process|-Filter\b|Add-Type|`|@'|@\""
    assert not re.search(forbidden, code, re.IGNORECASE)
    for quoted in re.findall(r'"[^"]*"', code):
        assert re.findall(r"\$(\w+:?\w*)", quoted) == ["env:SystemRoot"], "a value inside a text"
    for option in re.findall(r"-Path (\$\w+)", code):
        assert "New-Item" in body, f"-Path {option} reads wildcards; -LiteralPath does not"
    assert not re.search(r"[\u2010-\u201f]", body), "PowerShell reads these as quotes and dashes"


@every_script
def test_brackets_close(tool: Tool, body: str, parameters: Mapping[str, Any], section: str) -> None:
    pairs, open_ones = {")": "(", "]": "[", "}": "{"}, []
    for character in _VALUE.sub("", body):
        if character in pairs.values():
            open_ones.append(character)
        elif character in pairs:
            assert open_ones.pop() == pairs[character]
    assert open_ones == []


@pytest.mark.parametrize("tool", WINDOWS, ids=lambda tool: tool.name)
def test_an_answer_is_a_list_whatever_the_number_of_objects(tool: Tool) -> None:
    """Piped into ConvertTo-Json one object would be an object and none nothing at all."""
    for body, _, section in scripts(tool):
        if section == "command":
            assert re.search(r"^\$r=@\(.*\)$", body, re.MULTILINE)
            assert body.rstrip().endswith("ConvertTo-Json -InputObject $r -Depth 4 -Compress")
            assert "| ConvertTo-Json" not in body


@pytest.mark.parametrize("tool", WINDOWS, ids=lambda tool: tool.name)
def test_a_date_is_written_in_the_one_form_every_version_has(tool: Tool) -> None:
    """ConvertTo-Json writes dates as /Date(…)/ in one version and as ISO texts in another."""
    for body, _, _ in scripts(tool):
        for name in re.findall(r"'(\w*(?:Time|Date|After|Installed[Oo]n|LastSet|Logon)\w*)'", body):
            plain = rf"(?<!n=)'{name}'"
            selected = re.sub(r"-Properties [^|]*", "", body)
            assert name in ("InstallDate", "ResponseTime") or not re.search(plain, selected), name


@pytest.mark.parametrize(
    "tool", [one for one in REGISTRY.tools if one.undo.strategy == "call"], ids=lambda one: one.name
)
def test_an_undo_by_a_tool_is_a_call_that_tool_takes(tool: Tool) -> None:
    other = REGISTRY.get(tool.undo.tool)
    assert set(tool.undo.inputs) <= set(other.properties)
    assert other.required <= set(tool.undo.inputs)
    for root, path in references(dict(tool.undo.inputs)):
        known = {
            "inputs": tool.properties,
            "output": tool.output.get("schema", {}).get("properties", {}),
        }
        assert path[0] in known[root]
