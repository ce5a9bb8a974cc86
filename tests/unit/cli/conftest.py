"""opsctl against a scripted server, with a context file that names it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import pytest
from helpers.scripted_orchestrator import Script, ScriptedOrchestrator
from typer.testing import CliRunner

from opsconductor.cli.main import app
from opsconductor.rpc import sshsig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result


@dataclass
class Opsctl:
    """Runs opsctl in this process."""

    script: Script
    context_file: Path
    endpoint: str
    public_key: str

    def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=stdin)

    def set_context(self, **fields: object) -> None:
        context = json.loads(self.context_file.read_text())
        self.context_file.write_text(json.dumps({**context, **fields}))


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def server(script: Script) -> Iterator[ScriptedOrchestrator]:
    server = ScriptedOrchestrator(script)
    yield server
    server.close()


@pytest.fixture
def opsctl(
    server: ScriptedOrchestrator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Opsctl:
    private, public = sshsig.generate_key("alice")
    for name in ("ca.crt", "op.crt", "op.key"):
        (tmp_path / name).write_text("unused: the scripted server has no TLS")
    key = tmp_path / "alice.key"
    key.write_bytes(private)
    key.chmod(0o600)
    (tmp_path / "op.key").chmod(0o600)
    context = tmp_path / "context.yaml"
    context.write_text(
        json.dumps(
            {
                "endpoint": server.endpoint,
                "ca_file": "ca.crt",
                "cert_file": "op.crt",
                "key_file": "op.key",
                "operator": "alice",
                "signing_key": "alice.key",
                "embedded": True,
                "policy": "embedded",
            }
        )
    )
    monkeypatch.setenv("OPSCONDUCTOR_CONTEXT", str(context))
    monkeypatch.setattr(
        "opsconductor.client.sync_client.open_channel",
        lambda endpoint, tls, **_: grpc.insecure_channel(endpoint),
    )
    return Opsctl(server.script, context, server.endpoint, public)
