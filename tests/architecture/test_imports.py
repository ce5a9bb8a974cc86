"""Who may import whom, by contract and in a running process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.source_tree import ROOT

# What executes, reaches targets, or belongs to the other side.
NOT_IN_THE_ORCHESTRATOR = (
    *("asyncssh", "paramiko", "winrm", "requests", "httpx", "boto3", "pty", "pexpect"),
    *("botocore", "asyncmy", "redis", "aiosmtplib", "pysnmp", "sqlglot"),
    *("opsconductor.agent", "opsconductor.client", "opsconductor.cli"),
)
NOT_IN_THE_AGENT = (
    *("sqlalchemy", "asyncpg", "alembic", "grpc_reflection"),
    *("opsconductor.orchestrator", "opsconductor.client", "opsconductor.cli"),
)
# Heavy: a person who types `opsctl --help` should not wait for them.
NOT_IN_OPSCTL_AT_START = (
    *("grpc", "cryptography", "rich.live", "cel", "opentelemetry.sdk"),
    *("opsconductor.orchestrator", "opsconductor.agent"),
)
LOADED = "import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"


def modules_after_importing(module: str) -> set[str]:
    """Returns what a fresh interpreter has loaded after importing one module."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stdout)
    return set(loaded)


def test_the_import_contracts_are_kept() -> None:
    command = str(Path(sys.executable).parent / "lint-imports")
    done = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("opsconductor.orchestrator.main", NOT_IN_THE_ORCHESTRATOR),
        ("opsconductor.agent.main", NOT_IN_THE_AGENT),
        ("opsconductor.cli.main", NOT_IN_OPSCTL_AT_START),
    ],
)
def test_a_process_does_not_load_what_it_must_not_have(
    module: str, forbidden: tuple[str, ...]
) -> None:
    loaded = modules_after_importing(module)
    assert loaded & set(forbidden) == set()
