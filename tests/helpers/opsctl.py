"""Runs opsctl inside the test's process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typer.testing import CliRunner, Result

from opsconductor.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.scripted_orchestrator import Script


@dataclass
class Opsctl:
    """opsctl with a context file that names a scripted server."""

    script: Script
    context_file: Path
    public_key: str

    def __call__(self, *arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=stdin)

    def set_context(self, **fields: object) -> None:
        context = json.loads(self.context_file.read_text())
        self.context_file.write_text(json.dumps({**context, **fields}))
