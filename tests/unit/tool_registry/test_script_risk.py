"""run_script is as risky as its text, where the text is of a shell and all of it is understood."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opsconductor.tool_registry.documents.yaml_reader import load
from opsconductor.tool_registry.lint.tool import lint_tool
from opsconductor.tool_registry.loader import read_tool
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.risk.assess import assess, worst_call
from opsconductor.tool_registry.risk.free_commands import judge_command, judge_shell

RUN_SCRIPT = Registry.load().get("run_script")


@pytest.mark.parametrize(
    ("inputs", "risk"),
    [
        ({"script": "df -h | tail -n 1", "interpreter": "sh"}, "read_only"),
        ({"script": "df -h | tail -n 1", "interpreter": "bash"}, "read_only"),
        ({"script": "mkdir -p /srv/a", "interpreter": "sh"}, "modify"),
        ({"script": "df -h\nrm -rf /srv", "interpreter": "sh"}, "destructive"),
        ({"script": "echo $'a b'", "interpreter": "bash"}, "read_only"),
        ({"script": "echo $'a b'", "interpreter": "sh"}, "destructive"),
        ({"script": "print(1)", "interpreter": "python3"}, "destructive"),
        ({"script": "ls", "interpreter": "python3"}, "destructive"),
        ({"script": "ls", "interpreter": "pwsh"}, "destructive"),
        ({"script": "ls"}, "destructive"),
        ({"interpreter": "sh"}, "destructive"),
        ({"script": "cat ${{ steps.a.output.path }}", "interpreter": "sh"}, "destructive"),
        ({"script": "ls", "interpreter": "${{ steps.a.output.shell }}"}, "destructive"),
        ({"script": ["ls"], "interpreter": "sh"}, "destructive"),
        ({"script": '"$1" "$2"', "interpreter": "sh", "args": ["ls", "/"]}, "destructive"),
        ({"script": 'cat "$1"', "interpreter": "sh", "args": ["/etc/hosts"]}, "modify"),
    ],
)
def test_a_script_is_as_risky_as_its_text(inputs: dict[str, Any], risk: str) -> None:
    found = assess(RUN_SCRIPT, inputs)
    assert found.risk_class == risk, found.reasons
    assert found.idempotent is (risk == "read_only")
    assert found.reasons[0]


def test_its_worst_call_is_what_pipelines_are_told() -> None:
    assert worst_call(RUN_SCRIPT).risk_class == "destructive"


@pytest.mark.parametrize("body", ["(" * 5000 + "ls" + ")" * 5000, "ls \ud800", "ls" * 40_000])
def test_what_no_parser_can_take_counts_as_worst(body: str) -> None:
    assert judge_shell("sh", body).risk_class == "destructive"


def test_a_shell_among_arguments_is_read_as_that_shell() -> None:
    assert judge_command(["bash", "-c", "[[ -f /srv/a ]]"]).risk_class == "read_only"
    assert judge_command(["sh", "-c", "[[ -f /srv/a ]]"]).risk_class == "destructive"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"risk_from": {"parser": "script", "parameter": "args"}}, "risk_from of another text"),
        ({"risk_from": {"parser": "argv", "parameter": "script"}}, "risk_from of another text"),
        (
            {"risk_from": {"parser": "script", "parameter": "script", "interpreter": "args"}},
            "risk_from of another text",
        ),
        ({"command": {"argv": ["sh", "{interpreter}"]}}, "a command that is a script"),
    ],
)
def test_the_lint_wants_the_risk_from_the_very_text_that_runs(
    change: dict[str, Any], said: str
) -> None:
    definition, _, _ = load(RUN_SCRIPT.source, max_bytes=100_000)
    changed, faults = read_tool(json.dumps({**(definition or {}), **change}).encode())
    assert changed is not None, faults
    assert said in "\n".join(str(fault) for fault in lint_tool(changed))
    assert not lint_tool(RUN_SCRIPT)
