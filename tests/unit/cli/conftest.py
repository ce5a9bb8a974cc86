"""opsctl against a scripted server, with a context file that names it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import pytest

from helpers.opsctl import Opsctl
from helpers.scripted_orchestrator import Script, ScriptedOrchestrator
from opsconductor.rpc import sshsig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def server(script: Script) -> Iterator[ScriptedOrchestrator]:
    server = ScriptedOrchestrator(script)
    yield server
    server.close()


@pytest.fixture
def opsctl(server: ScriptedOrchestrator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opsctl:
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
    return Opsctl(server.script, context, public)
