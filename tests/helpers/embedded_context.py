"""An orchestrator and a local agent, started and stopped as a person does: by opsctl."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

from helpers.source_tree import ROOT

SCRIPTS = Path(sys.executable).parent
OPSCTL = str(SCRIPTS / "opsctl")
START_SECONDS = 60


@contextmanager
def embedded_context(data_dir: Path) -> Iterator[dict[str, str]]:
    """Starts both, yields the environment in which `opsctl` finds them, and stops both."""
    start = [OPSCTL, "up", "--data-dir", str(data_dir), "--detach"]
    watched = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "deploy" / "no_execution"),
        "OPSCONDUCTOR_EXECUTION_LOG": str(execution_log(data_dir)),
    }
    try:
        done = subprocess.run(
            start, env=watched, capture_output=True, text=True, check=False, timeout=START_SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield {
            **os.environ,
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
            "OPSCONDUCTOR_CONTEXT": str(data_dir / "context.yaml"),
        }
    finally:
        stop(data_dir)


def execution_log(data_dir: Path) -> Path:
    """Returns the file in which everything stands that the orchestrator tried to execute."""
    return data_dir.with_name(f"{data_dir.name}-execution.log")


def stop(data_dir: Path) -> None:
    """Stops what `opsctl up` started over a data directory, if anything."""
    command = [OPSCTL, "down", "--data-dir", str(data_dir)]
    subprocess.run(command, capture_output=True, check=False, timeout=START_SECONDS)
