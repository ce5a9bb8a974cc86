"""A file outside the product that tells how often each step really ran."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_APPEND = (
    "import os, sys; f = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600); "
    "os.write(f, sys.argv[2].encode() + b'\\n'); os.fsync(f); print(sys.argv[2])"
)


def lines(path: Path) -> list[str]:
    """Returns the lines written so far."""
    return path.read_text().splitlines() if path.exists() else []


def write_line(path: Path, line: str) -> dict[str, Any]:
    """Returns a call that appends a line for certain, and would append it again if repeated."""
    argv = [sys.executable, "-I", "-S", "-c", _APPEND, str(path), line]
    return {"tool": "run_command", "inputs": {"argv": argv}}


def plan(path: Path, *names: str, fails: str = "", **fields: Any) -> dict[str, Any]:
    """Returns a plan whose steps write their names, each with an undo that writes so too.

    Args:
        path: The ledger.
        names: Steps, in order.
        fails: A step that ends with exit code 3, at the end.
        fields: Further fields of the plan.
    """
    steps = [
        {"id": name, **write_line(path, name), "undo": write_line(path, f"undo {name}")}
        for name in names
    ]
    if fails:
        argv = ["sh", "-c", "exit 3"]
        failing = {"id": fails, "tool": "run_command", "inputs": {"argv": argv}, "undo": "none"}
        steps.append(failing)
    document = {"name": "ledger", "context": {"environment": "staging"}, "steps": steps}
    return {**document, **fields}
