"""ARCHITECTURE.md tells of states and events as they are."""

from __future__ import annotations

import subprocess
import sys

from helpers.source_tree import ROOT
from opsconductor.orchestrator.domain import events


def test_the_state_diagrams_are_those_of_the_tables() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "deploy/docs/diagrams.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_table_of_tools_is_that_of_the_definitions_and_cases() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "deploy/docs/tool_table.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_event_is_named() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert [name for name in events.TYPES if f"`{name}`" not in text] == []
