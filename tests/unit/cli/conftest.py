"""opsctl against a scripted server, with a context file that names it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest

from helpers.opsctl import Opsctl
from helpers.scripted_orchestrator import Script, ScriptedOrchestrator
from opsconductor.orchestrator.pki import CertificateAuthority
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
    # The scripted server has no TLS, but opsctl looks at the certificate when nobody answers.
    now = datetime.now(UTC)
    ca = CertificateAuthority.load_or_create(tmp_path / "pki", now=now)
    certificate, own_key = ca.issue_client("operator", "alice", "acme", timedelta(hours=1), now=now)
    (tmp_path / "ca.crt").write_bytes(ca.certificate_pem)
    (tmp_path / "op.crt").write_bytes(certificate)
    (tmp_path / "op.key").write_bytes(own_key)
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
