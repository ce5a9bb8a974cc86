"""OpsConductor as a person starts it: ``opsctl up``."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from opsconductor.client.context import Context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.ssh_targets import SshTargets

OPSCTL = str(Path(sys.executable).parent / "opsctl")
SECONDS = 90


@contextlib.contextmanager
def running(folder: Path, targets: SshTargets | None) -> Iterator[Context]:
    """Starts an orchestrator and an agent that knows the hosts; stops both."""
    agent = folder / "agent"
    agent.mkdir(mode=0o700, parents=True)
    if targets:
        credentials = agent / "credentials.yaml"
        credentials.write_text(targets.credentials())
        credentials.chmod(0o600)
    try:
        _opsctl("up", "--data-dir", str(folder), "--detach")
        context = folder / "context.yaml"
        if targets:
            document = folder / "hosts.json"
            document.write_text(json.dumps({"assets": targets.assets()}))
            _opsctl("assets", "import", str(document), context=context)
        yield Context.load(context)
    finally:
        _opsctl("down", "--data-dir", str(folder))


def _opsctl(*words: str, context: Path | None = None) -> None:
    environment = {"OPSCONDUCTOR_CONTEXT": str(context)} if context else {}
    done = subprocess.run(
        ["env", *(f"{key}={value}" for key, value in environment.items()), OPSCTL, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"opsctl {' '.join(words)}: {done.stdout}{done.stderr}")
