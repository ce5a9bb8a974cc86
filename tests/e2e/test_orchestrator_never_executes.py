"""The orchestrator decides and never executes, seen from inside its own running process."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from helpers.embedded_context import OPSCTL, embedded_context, execution_log

if TYPE_CHECKING:
    from pathlib import Path


def test_an_orchestrator_that_runs_a_command_through_an_agent_starts_no_process(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / "context"
    with embedded_context(data_dir) as environment:
        command = [OPSCTL, "run", "run_command", 'argv=["echo", "hello"]', "--yes", "-o", "json"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["status"] == "completed"
    assert execution_log(data_dir).read_text() == "armed\n"
