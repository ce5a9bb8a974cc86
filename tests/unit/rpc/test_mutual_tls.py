# ruff: noqa: N802 - servicer methods are named by the contract
"""Nobody without a certificate of this CA gets in, and nobody else's server is believed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from opsconductor.orchestrator.pki import CertificateAuthority
from opsconductor.rpc.channel import ClientTls, channel_options, open_channel
from opsconductor.rpc.status import from_rpc_error
from opsconductor.rpc.transport import Unreachable
from opsconductor.v1 import plan_service_pb2 as plans
from opsconductor.v1.plan_service_pb2_grpc import (
    PlanServiceServicer,
    PlanServiceStub,
    add_PlanServiceServicer_to_server,
)

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from helpers.secure_server import SecureServer

HOUR = timedelta(hours=1)


class Plans(PlanServiceServicer):
    async def Validate(
        self, request: plans.ValidateRequest, context: Any
    ) -> plans.ValidateResponse:
        return plans.ValidateResponse()


@pytest.fixture
async def server(secure_server: SecureServer) -> SecureServer:
    servicer = Plans()  # type: ignore[abstract]
    add_PlanServiceServicer_to_server(servicer, secure_server.server)
    await secure_server.server.start()
    return secure_server


async def validate(channel: grpc.aio.Channel) -> None:
    try:
        async with asyncio.timeout(20):
            await PlanServiceStub(channel).Validate(plans.ValidateRequest())
    finally:
        await channel.close()


async def refused(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await validate(channel)
    assert type(from_rpc_error(raised.value)) is Unreachable


def evil_twin(ca: CertificateAuthority, folder: Path, now: datetime) -> CertificateAuthority:
    """Makes another CA with the same subject."""
    twin = CertificateAuthority.load_or_create(folder, now=now)
    key = twin.key
    certificate = (
        x509.CertificateBuilder()
        .subject_name(ca.certificate.subject)
        .issuer_name(ca.certificate.subject)
        .serial_number(ca.certificate.serial_number)
        .not_valid_before(now - HOUR)
        .not_valid_after(now + HOUR)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return CertificateAuthority(folder, certificate, key)


async def test_a_certificate_of_the_ca_gets_in(server: SecureServer) -> None:
    await validate(server.channel())


async def test_a_caller_without_certificate_is_refused(server: SecureServer) -> None:
    credentials = grpc.ssl_channel_credentials(server.ca.certificate_pem)
    await refused(grpc.aio.secure_channel(server.endpoint, credentials, channel_options()))


async def test_plaintext_is_refused(server: SecureServer) -> None:
    await refused(grpc.aio.insecure_channel(server.endpoint))


async def test_a_certificate_of_a_twin_ca_with_the_same_name_is_refused(
    server: SecureServer, tmp_path: Path, now: datetime
) -> None:
    twin = evil_twin(server.ca, tmp_path / "evil", now)
    certificate, key = twin.issue_client("operator", "alice", "default", HOUR, now=now)
    tls = ClientTls(server.ca.certificate_pem, certificate, key)
    await refused(open_channel(server.endpoint, tls))


async def test_an_expired_certificate_is_refused(server: SecureServer, now: datetime) -> None:
    then = now - timedelta(days=2)
    certificate, key = server.ca.issue_client("operator", "alice", "default", HOUR, now=then)
    tls = ClientTls(server.ca.certificate_pem, certificate, key)
    await refused(open_channel(server.endpoint, tls))


async def test_a_server_certificate_does_not_make_a_client(server: SecureServer) -> None:
    tls = ClientTls(server.ca.certificate_pem, *server.certificate)
    await refused(open_channel(server.endpoint, tls))


async def test_a_server_of_another_ca_is_not_believed(
    server: SecureServer, tmp_path: Path, now: datetime
) -> None:
    other = CertificateAuthority.load_or_create(tmp_path / "other", now=now)
    tls = server.tls()
    await refused(
        open_channel(server.endpoint, ClientTls(other.certificate_pem, tls.certificate, tls.key))
    )


async def test_a_client_certificate_does_not_make_a_server(
    server: SecureServer, now: datetime
) -> None:
    tls = server.tls()
    server.certificate = (tls.certificate, tls.key)
    await refused(open_channel(server.endpoint, tls))


async def test_a_new_server_certificate_is_used_without_a_restart(
    server: SecureServer, now: datetime
) -> None:
    (server.ca.directory / "server.crt").unlink()
    before = server.certificate
    server.certificate = server.ca.server_certificate(now=now)
    assert server.certificate != before
    served = await asyncio.to_thread(_served_certificate, server)
    assert served.public_bytes(Encoding.PEM) == server.certificate[0]


def _served_certificate(server: SecureServer) -> x509.Certificate:
    import socket
    import ssl

    context = ssl.create_default_context(cadata=server.ca.certificate_pem.decode())
    context.set_alpn_protocols(["h2"])
    host, _, port = server.endpoint.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="opsconductor-orchestrator") as wrapped:
            assert wrapped.version() == "TLSv1.3"
            return x509.load_der_x509_certificate(wrapped.getpeercert(binary_form=True) or b"")
