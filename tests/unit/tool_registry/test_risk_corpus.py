"""The published corpus of commands: none is judged below its class, few above it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from helpers.source_tree import ROOT
from opsconductor.tool_registry.risk.assess import ORDER
from opsconductor.tool_registry.risk.free_commands import judge_shell

FAMILIES: dict[str, Any] = yaml.safe_load(
    (ROOT / "tool_registry/corpus/commands.yaml").read_text(encoding="utf-8")
)
COMMANDS = [
    (family, entry["class"], entry.get("interpreter", "bash"), command)
    for family, entry in FAMILIES.items()
    for command in entry["commands"]
]
MOST_FALSE_ALARMS = 0.12


@pytest.mark.parametrize(
    ("family", "expected", "interpreter", "command"), COMMANDS, ids=[each[3] for each in COMMANDS]
)
def test_no_command_is_judged_below_its_class(
    family: str, expected: str, interpreter: str, command: str
) -> None:
    judged = judge_shell(interpreter, command)
    assert ORDER[judged.risk_class] >= ORDER[expected], f"{family}: {judged.reason}"
    assert judged.reason


def test_false_alarms_are_few() -> None:
    alarms = [
        command
        for _, expected, interpreter, command in COMMANDS
        if ORDER[judge_shell(interpreter, command).risk_class] > ORDER[expected]
    ]
    share = len(alarms) / len(COMMANDS)
    print(f"{len(COMMANDS)} commands, {len(alarms)} false alarms ({share:.1%}): {alarms}")  # noqa: T201
    assert share <= MOST_FALSE_ALARMS


def test_the_corpus_is_large_and_has_no_command_twice() -> None:
    texts = [command for _, _, _, command in COMMANDS]
    assert len(texts) >= 300
    assert len(set(texts)) == len(texts)
