"""How an agent gets its certificate: a token once, renewals afterwards. The key never leaves it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc

from opsconductor.rpc.channel import AGENT_MESSAGE_BYTES, ClientTls, open_channel
from opsconductor.rpc.errors import OpsConductorError
from opsconductor.rpc.identity import Identity
from opsconductor.rpc.status import from_rpc_error
from opsconductor.v1 import agent_service_pb2 as pb
from opsconductor.v1 import agent_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509

    from opsconductor.rpc.token_file import TokenFile

KEY_FILE, CERTIFICATE_FILE, CA_FILE = "agent.key", "agent.crt", "ca.crt"
ENROLL_TIMEOUT = 20.0
REACH_TIMEOUT = 5.0
RENEW_AT = 2 / 3
"""Share of its life after which a certificate is replaced."""
RETRY_RENEWAL = 60.0
_LONGEST_SLEEP = 60.0

_log = logging.getLogger(__name__)


class NotEnrolled(OpsConductorError):
    """The agent has no usable certificate."""

    reason = "NOT_ENROLLED"
    code = "FAILED_PRECONDITION"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What an enrolment gave the agent."""

    agent_id: str
    name: str
    segment: str


async def enroll_anywhere(endpoints: Sequence[str], token: TokenFile, folder: Path) -> Enrolled:
    """Enrols with the first orchestrator that can be reached; no other sees the token."""
    for endpoint in endpoints[:-1]:
        if await _can_be_reached(endpoint, token):
            return await enroll(endpoint, token, folder)
        _log.warning("%s cannot be reached, trying the next", endpoint)
    return await enroll(endpoints[-1], token, folder)


async def _can_be_reached(endpoint: str, token: TokenFile) -> bool:
    tls = ClientTls(token.ca, token.certificate, token.key)
    async with _open(endpoint, tls) as channel:
        try:
            await asyncio.wait_for(channel.channel_ready(), REACH_TIMEOUT)
        except TimeoutError:
            return False
        return True


async def enroll(endpoint: str, token: TokenFile, folder: Path) -> Enrolled:
    """Makes a key in the folder, trades the token for its certificate and stores both."""
    key, csr = _new_key(token.name or "agent")
    tls = ClientTls(token.ca, token.certificate, token.key)
    async with _open(endpoint, tls) as channel:
        call: Any = pb_grpc.AgentServiceStub(channel).Enroll
        request = pb.EnrollRequest(token=token.token, csr=csr)
        try:
            answer = await call(request, timeout=ENROLL_TIMEOUT, wait_for_ready=True)
        except grpc.RpcError as exc:
            raise from_rpc_error(exc) from exc
    _write(folder / KEY_FILE, key)
    _write(folder / CA_FILE, token.ca)
    _write(folder / CERTIFICATE_FILE, answer.certificate)
    return Enrolled(answer.agent_id, answer.name, answer.segment)


class AgentCertificates:
    """The key and certificate in the agent's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._renewing = asyncio.Lock()

    def identity(self) -> Identity:
        """Returns who the certificate says this agent is.

        Raises:
            NotEnrolled: Without a certificate, its key or the CA's certificate.
        """
        from cryptography import x509

        self._require_key()
        names = self._certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName)
        for uri in names.value.get_values_for_type(x509.UniformResourceIdentifier):
            if identity := Identity.parse(uri):
                return identity
        raise NotEnrolled(f"{self._folder / CERTIFICATE_FILE} is no certificate of an agent")

    def open_channel(self, endpoint: str) -> grpc.aio.Channel:
        """Opens a channel with the newest certificate.

        Raises:
            NotEnrolled: It has expired, or nothing proves any more that it is this agent's.
        """
        self._require_key()
        if self._certificate().not_valid_after_utc <= datetime.now(UTC):
            raise NotEnrolled(
                f"this agent's certificate expired at {self._certificate().not_valid_after_utc}; "
                "make a token with 'opsctl agents token create' and join again"
            )
        tls = ClientTls.load(
            *(self._folder / name for name in (CA_FILE, CERTIFICATE_FILE, KEY_FILE))
        )
        return _open(endpoint, tls)

    async def renew_when_due(self, channel: grpc.aio.Channel) -> None:
        """Waits for two thirds of the certificate's life, replaces it, and returns.

        Of several connections one replaces it; the others return when they see the new one.
        """
        used = self._certificate()
        while True:
            certificate = self._certificate()
            if certificate != used:
                return
            start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            left = (start + (end - start) * RENEW_AT - datetime.now(UTC)).total_seconds()
            if left > 0:
                # In pieces: the clock may be set meanwhile, and sleep does not count suspends.
                await asyncio.sleep(min(left, _LONGEST_SLEEP))
                continue
            try:
                async with self._renewing:
                    if self._certificate() == used:
                        await self._renew(channel)
            except (grpc.RpcError, OSError, ValueError) as exc:
                why = from_rpc_error(exc).message if isinstance(exc, grpc.RpcError) else exc
                _log.error("the certificate could not be renewed: %s", why)
                await asyncio.sleep(RETRY_RENEWAL)
            else:
                _log.info("the certificate was renewed")
                return

    async def _renew(self, channel: grpc.aio.Channel) -> None:
        from cryptography.hazmat.primitives import serialization

        key = serialization.load_pem_private_key((self._folder / KEY_FILE).read_bytes(), None)
        call: Any = pb_grpc.AgentServiceStub(channel).RenewCertificate
        request = pb.RenewCertificateRequest(csr=_csr(key, "agent"))
        answer = await call(request, timeout=ENROLL_TIMEOUT)
        _require_own(answer.certificate, key)
        _write(self._folder / CERTIFICATE_FILE, answer.certificate)

    def _require_key(self) -> None:
        """Raises NotEnrolled where the folder can no longer prove that it is this agent's."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization

        certificate, path = self._certificate(), self._folder / KEY_FILE
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), None)
            wrong = "" if key.public_key() == certificate.public_key() else "is of another agent"
        except FileNotFoundError:
            wrong = "is missing"
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as exc:
            wrong = f"cannot be read: {exc}"
        if wrong:
            raise NotEnrolled(
                f"{path} {wrong}, so this agent cannot prove who it is. Put the file back from a "
                "backup; or join as another agent ('opsctl agents token create'), and let "
                "'opsctl agents retire' settle what this one was given"
            )
        if not (self._folder / CA_FILE).exists():
            raise NotEnrolled(
                f"{self._folder / CA_FILE} is missing, so no orchestrator can be trusted. Put it "
                "back: it is ca.crt in the orchestrator's PKI folder"
            )

    def _certificate(self) -> x509.Certificate:
        from cryptography import x509

        path = self._folder / CERTIFICATE_FILE
        try:
            return x509.load_pem_x509_certificate(path.read_bytes())
        except FileNotFoundError:
            raise NotEnrolled(f"{path} is missing; run 'opsconductor-agent join' first") from None
        except ValueError as exc:
            raise NotEnrolled(f"{path} cannot be read: {exc}") from exc


def _open(endpoint: str, tls: ClientTls) -> grpc.aio.Channel:
    return open_channel(
        endpoint,
        tls,
        max_receive_bytes=AGENT_MESSAGE_BYTES,
        max_send_bytes=AGENT_MESSAGE_BYTES,
    )


def _new_key(name: str) -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem, _csr(key, name)


def _require_own(certificate: bytes, key: Any) -> None:
    """Raises ValueError for a certificate that this key could not be used with."""
    from cryptography import x509

    if x509.load_pem_x509_certificate(certificate).public_key() != key.public_key():
        raise ValueError("the new certificate is not for this agent's key")


def _csr(key: Any, name: str) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _write(path: Path, data: bytes) -> None:
    """Replaces a file in one step, readable by the owner only."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
