"""Tool files of older shapes become today's, or are refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from opsconductor.tool_registry.lint.tool import lint_tool
from opsconductor.tool_registry.loader import read_tool
from opsconductor.tool_registry.older_shapes import converted, is_older_shape
from opsconductor.tool_registry.rendering.render import as_data, render

OLD: dict[str, Any] = {
    "tool_name": "Disk-Check",
    "execution_location": "automation-service",
    "platform": "linux",
    "description": "Show disk space",
    "parameters": [
        {"name": "path", "type": "string", "required": True, "description": "where to look"},
        {"name": "block-size", "type": "int", "default": 1, "min": 1, "max": 4096},
    ],
    "command_template": "df -P --block-size={{ block-size }} {path}",
}


def test_a_template_becomes_an_argument_list_that_passes_the_checks() -> None:
    text, faults = converted(OLD)
    assert not faults
    tool, _ = read_tool(text.encode())
    assert tool is not None
    assert not lint_tool(tool)
    assert tool.name == "disk_check"
    assert tool.required == {"path"}
    rendered = render(tool, {"path": "/srv/a b", "block_size": 512}, None)
    assert as_data(rendered) == {"argv": ["df", "-P", "--block-size=512", "--", "/srv/a b"]}


def test_nothing_an_older_file_leaves_out_counts_as_harmless() -> None:
    tool, _ = read_tool(converted(OLD)[0].encode())
    assert tool is not None
    assert tool.annotations.destructive
    assert not tool.annotations.read_only


@pytest.mark.parametrize(
    ("template", "culprit"),
    [
        ("cat {f} | grep x", "'|'"),
        ("echo {f} > /tmp/x", "'>'"),
        ("echo $(id)", "'$('"),
        ("echo `id`", "'`'"),
        ("rm {f}; reboot", "';'"),
        ("ls *.log", "'*'"),
        ("echo $HOME", "'$H'"),
        ("one\ntwo", "'\\n'"),
    ],
)
def test_a_template_that_needs_a_shell_is_refused_with_the_reason(
    template: str, culprit: str
) -> None:
    old = {**OLD, "command_template": template, "parameters": [{"name": "f"}]}
    text, faults = converted(old)
    assert not text
    assert [fault.code for fault in faults] == ["NEEDS_A_SHELL"]
    assert culprit in faults[0].found


def test_all_mistakes_are_told_at_once() -> None:
    old = {
        "tool_name": "x",
        "parameters": [{"type": "string"}, {"name": "a", "type": "blob"}],
        "command_template": "tool {b}",
    }
    _, faults = converted(old)
    assert {fault.field for fault in faults} == {
        "parameters[0]",
        "parameters.a.type",
        "command_template",
    }


@pytest.mark.parametrize(
    ("document", "expected"),
    [(OLD, True), ({"tool": {"name": "x"}}, True), ({"schema": "opsconductor.tool/1"}, False)],
)
def test_the_shape_of_a_file_is_seen(document: dict[str, Any], expected: bool) -> None:
    assert is_older_shape(document) is expected
