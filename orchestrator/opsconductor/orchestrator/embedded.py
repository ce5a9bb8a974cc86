"""The local operator: identity, signing key, context file and the local agent's token."""

from __future__ import annotations

import json
import os
import pwd
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.orchestrator.pki import CertificateAuthority, make_token_file
from opsconductor.rpc.statements import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from opsconductor.orchestrator.config import Config

OPERATOR_CERTIFICATE_TTL = timedelta(days=365)
RENEW_BEFORE = timedelta(days=30)
LOCAL_AGENT = "local"
LOCAL_TOKEN_TTL = timedelta(minutes=15)


class Authority:
    """The certificate authority as enrolment uses it."""

    def __init__(self, ca: CertificateAuthority, clock: Callable[[], datetime]) -> None:
        self._ca = ca
        self._clock = clock

    @property
    def certificate_pem(self) -> bytes:
        """The CA's certificate."""
        return self._ca.certificate_pem

    def agent_certificate(self, csr: bytes, agent_id: str, tenant: str, ttl: timedelta) -> bytes:
        """Signs a request's key for an agent. Raises InvalidArgument."""
        return self._ca.sign_csr(csr, "agent", agent_id, tenant, ttl, now=self._clock())

    def token_file(self, tenant: str, name: str, segment: str, ttl: timedelta) -> tuple[str, str]:
        """Makes a token file; returns (text, hash of the token)."""
        text, _, token_hash = make_token_file(
            self._ca, tenant, name, segment, ttl, now=self._clock()
        )
        return text, token_hash


def operator_name(config: Config) -> str:
    """Returns the local operator's name: as configured, else the login name."""
    if config.operator:
        return config.operator
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = "operator"
    return re.sub(r"[^A-Za-z0-9._@+-]", "-", name)[:64] or "operator"


def write_operator(config: Config, ca: CertificateAuthority, endpoint: str, now: datetime) -> None:
    """Makes what the local operator needs at the first start; the context file at every start."""
    directory = config.data_dir
    name = operator_name(config)
    _write_certificate(directory, ca, name, config.tenant, now)
    _write_signing_key(directory, name)
    write(directory / "ca.crt", ca.certificate_pem, 0o644)
    context = {
        "endpoint": endpoint,
        "ca_file": "ca.crt",
        "cert_file": "operator.crt",
        "key_file": "operator.key",
        "operator": name,
        "signing_key": "operator_signing_key",
        "embedded": config.policy == "embedded",
        "policy": config.policy,
    }
    write(directory / "context.yaml", json.dumps(context, indent=2).encode() + b"\n", 0o600)


def write(path: Path, data: bytes, mode: int) -> None:
    """Writes a file whole or not at all, with its mode from the first moment."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _write_certificate(
    directory: Path, ca: CertificateAuthority, name: str, tenant: str, now: datetime
) -> None:
    from cryptography import x509

    file = directory / "operator.crt"
    if file.exists() and (directory / "operator.key").exists():
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        if certificate.not_valid_after_utc - now > RENEW_BEFORE:
            return
    certificate_pem, key_pem = ca.issue_client(
        "operator", name, tenant, OPERATOR_CERTIFICATE_TTL, now=now
    )
    write(directory / "operator.key", key_pem, 0o600)
    write(file, certificate_pem, 0o644)


def _write_signing_key(directory: Path, name: str) -> None:
    from opsconductor.rpc import sshsig

    key_file = directory / "operator_signing_key"
    if not key_file.exists():
        private, public = sshsig.generate_key(name)
        write(directory / "operator_signing_key.pub", public.encode() + b"\n", 0o644)
        write(key_file, private, 0o600)
    signers = directory / "allowed_signers"
    if not signers.exists():
        words = (directory / "operator_signing_key.pub").read_text().split()
        line = f'{name} namespaces="{NAMESPACE}" {words[0]} {words[1]}\n'
        write(signers, line.encode(), 0o644)
