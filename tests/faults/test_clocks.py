"""Somebody sets the clock of the orchestrator's machine while plans run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers import fake_time, ledger
from helpers.stack import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.stack import Stack


@pytest.fixture
def shift(stack: Stack, tmp_path: Path) -> Path:
    """A file that says how far the clock of the orchestrator, which runs, is ahead."""
    library = fake_time.library() or pytest.skip(fake_time.HINT)
    file = tmp_path / "shift"
    file.write_text("+0\n")
    stack.variables = {**fake_time.variables(library, file), "FAKETIME_NO_CACHE": "1"}
    stack.start_orchestrator()
    stack.variables = {}
    stack.start_agent()
    wait_until(lambda: stack.agent_state("local") == "online", "the agent is connected")
    return file


def test_a_plan_is_given_the_time_it_was_allowed(stack: Stack, shift: Path) -> None:
    go = stack.folder / "go"
    waits = f"while ! [ -e {go} ]; do sleep 0.1; done"
    step = {"id": "w", "tool": "run_command", "inputs": {"argv": ["sh", "-c", waits]}}
    plan = ledger.plan(stack.ledger, "after")
    steps = [{**step, "undo": "none", "segment": "local"}, *plan["steps"]]
    execution_id = stack.submit({**plan, "steps": steps, "timeout": "1h"})
    wait_until(lambda: stack.status(execution_id) == "running", "it runs")
    shift.write_text("+3h\n")
    wait_until(lambda: "the clock was set" in stack.logs(), "the clock is seen to be set")
    go.touch()
    assert stack.wait_for(execution_id)["status"] == "completed"
    assert ledger.lines(stack.ledger) == ["after"]
