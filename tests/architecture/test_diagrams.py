"""ARCHITECTURE.md tells of states and events as they are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from helpers.source_tree import ROOT
from opsconductor.orchestrator.domain.executions import events


@pytest.mark.parametrize("script", ["diagrams.py", "tool_table.py"])
def test_what_is_generated_is_as_it_would_be_written_today(script: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "deploy/docs" / script, "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_event_is_named() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert [name for name in events.TYPES if f"`{name}`" not in text] == []
