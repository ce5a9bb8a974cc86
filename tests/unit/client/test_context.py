"""A context file says where the orchestrator is and who calls it, or what it lacks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from opsconductor.client import Context
from opsconductor.orchestrator.pki import CertificateAuthority
from opsconductor.rpc.errors import DocumentInvalid, InvalidArgument
from opsconductor.rpc.identity import Identity
from opsconductor.rpc.sshsig import AllowedSigners, generate_key, verify

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FIELDS: dict[str, Any] = {
    "endpoint": "127.0.0.1:7000",
    "ca_file": "orchestrator/ca.crt",
    "cert_file": "alice.crt",
    "key_file": "alice.key",
    "operator": "alice",
    "signing_key": "alice_ed25519",
    "embedded": True,
    "policy": "embedded",
    "written_by_a_newer_version": [1],
}


def write(folder: Path, text: str | None = None, **changes: Any) -> Path:
    path = folder / "context.yaml"
    path.write_text(json.dumps(FIELDS | changes) if text is None else text)
    return path


def test_a_context_is_read_and_its_files_are_found_beside_it(tmp_path: Path) -> None:
    context = Context.load(write(tmp_path))
    assert context == Context(
        endpoint="127.0.0.1:7000",
        ca_file=tmp_path / "orchestrator/ca.crt",
        cert_file=tmp_path / "alice.crt",
        key_file=tmp_path / "alice.key",
        operator="alice",
        signing_key=tmp_path / "alice_ed25519",
        embedded=True,
        policy="embedded",
    )


def test_absolute_file_names_stay(tmp_path: Path) -> None:
    context = Context.load(write(tmp_path, ca_file="/etc/opsconductor/ca.crt"))
    assert str(context.ca_file) == "/etc/opsconductor/ca.crt"


def test_a_hand_written_yaml_context_is_read(tmp_path: Path) -> None:
    text = "endpoint: host:1\nca_file: ca\ncert_file: c\nkey_file: k\n"
    assert Context.load(write(tmp_path, text)).endpoint == "host:1"


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DocumentInvalid) as refused:
        Context.load(write(tmp_path, endpoint="", ca_file=7, embedded="yes", policy=[]))
    for name in ("endpoint", "ca_file", "embedded", "policy"):
        assert name in refused.value.message


@pytest.mark.parametrize("text", ["", "[]", "a: b: c", "\x00", "{"])
def test_what_is_no_context_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DocumentInvalid, match="context file"):
        Context.load(write(tmp_path, text))


def test_a_missing_context_is_told(tmp_path: Path) -> None:
    with pytest.raises(DocumentInvalid, match="No such file"):
        Context.load(tmp_path / "context.yaml")


def test_the_certificate_says_who_calls(tmp_path: Path) -> None:
    context = Context.load(write(tmp_path))
    ca = CertificateAuthority.load_or_create(tmp_path / "orchestrator", now=NOW)
    certificate, key = ca.issue_client("operator", "alice", "acme", timedelta(days=1), now=NOW)
    context.cert_file.write_bytes(certificate)
    with pytest.raises(DocumentInvalid, match=r"alice\.key"):
        context.tls()
    context.key_file.write_bytes(key)
    assert context.tls().certificate == certificate
    assert context.identity() == Identity("acme", "operator", "alice")


def test_a_certificate_without_identity_is_refused(tmp_path: Path) -> None:
    context = Context.load(write(tmp_path))
    ca = CertificateAuthority.load_or_create(tmp_path / "orchestrator", now=NOW)
    context.cert_file.write_bytes(ca.server_certificate(now=NOW)[0])
    with pytest.raises(DocumentInvalid, match="carries no OpsConductor identity"):
        context.identity()


def test_the_signer_signs_with_the_contexts_key(tmp_path: Path) -> None:
    private, public = generate_key()
    context = Context.load(write(tmp_path))
    with pytest.raises(InvalidArgument, match="cannot sign with"):
        context.signer().sign(b"x", "n")
    (tmp_path / "alice_ed25519").write_bytes(private)
    signature = context.signer().sign(b"x", "n")
    signers = AllowedSigners.parse(f"alice {public}")
    assert verify(b"x", signature, namespace="n", signers=signers, principal="alice", at=NOW)


@pytest.mark.parametrize("missing", [{"operator": ""}, {"signing_key": None}])
def test_a_context_that_cannot_sign_says_what_it_needs(
    tmp_path: Path, missing: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument, match="'operator' and 'signing_key'"):
        Context.load(write(tmp_path, **missing)).signer()


def test_several_endpoints_stand_in_the_order_of_preference(tmp_path: Path) -> None:
    both = Context.load(write(tmp_path, endpoints=["b:2", "127.0.0.1:7000", "c:3"]), {})
    assert both.endpoint == "127.0.0.1:7000"
    assert both.endpoints == ("127.0.0.1:7000", "b:2", "c:3")
    alone = Context.load(write(tmp_path, endpoint=None, endpoints=["b:2", "c:3"]), {})
    assert (alone.endpoint, alone.endpoints) == ("b:2", ("b:2", "c:3"))
    assert Context.load(write(tmp_path), {}).endpoints == ("127.0.0.1:7000",)


def test_the_environment_replaces_the_endpoints_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, endpoints=["b:2"])
    several = Context.load(file, {"OPSCONDUCTOR_ENDPOINTS": "x:1, y:2,"})
    assert several.endpoints == ("x:1", "y:2")
    assert Context.load(file, {"OPSCONDUCTOR_ENDPOINT": "z:3"}).endpoints == ("z:3",)
    assert Context.load(file, {"OPSCONDUCTOR_ENDPOINTS": ""}).endpoint == "127.0.0.1:7000"


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint": None},
        {"endpoints": "a:1"},
        {"endpoints": ["a:1", "b"]},
        {"endpoints": ["a:0"]},
        {"endpoints": [":1"]},
        {"endpoints": [7]},
    ],
)
def test_what_is_no_endpoint_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(DocumentInvalid, match="endpoint"):
        Context.load(write(tmp_path, **wrong), {})
