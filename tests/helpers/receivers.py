"""What messages are sent to in tests: a mail server with TLS and logins, and a webhook receiver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from helpers.accepting import accepting, ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiosmtpd.smtp import Envelope, LoginPassword, Session


def self_signed(folder: Path) -> Path:
    """Writes certificate and key of a server on 127.0.0.1 and returns the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def server_context(pem: Path) -> ssl.SSLContext:
    """Returns how a server shows the certificate of a file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@dataclass
class MailServer:
    """Takes mail for example.com; names decide what happens to it."""

    port: int = 0
    mails: list[Envelope] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        if address.startswith("unknown"):
            return "550 5.1.1 no such user"
        if address.startswith("busy"):
            return "450 4.2.1 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        self.mails.append(envelope)
        if envelope.rcpt_tos[0].startswith("vanish"):
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        if envelope.rcpt_tos[0].startswith("spam"):
            return "554 5.7.1 looks like spam"
        return "250 taken"

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Any, _kind: str, data: LoginPassword
    ) -> AuthResult:
        self.logins.append(data.login.decode())
        right = (data.login, data.password) == (b"ops", b"mail-password")
        return AuthResult(success=right, handled=False)


class _Session(SMTP):
    """Keeps the connection below TLS: what STARTTLS puts over it forgets it when closed twice."""

    def __init__(
        self, connections: list[asyncio.BaseTransport], *arguments: Any, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.transport is None:
            self._connections.append(transport)
        super().connection_made(transport)


@contextlib.asynccontextmanager
async def mail_server(pem: Path | None) -> AsyncIterator[MailServer]:
    """Runs a mail server; with a certificate it wants STARTTLS and a login."""
    handler = MailServer()
    context = server_context(pem) if pem else None

    connections: list[asyncio.BaseTransport] = []

    def protocol() -> SMTP:
        return _Session(
            connections,
            handler,
            hostname="mail.example.com",
            tls_context=context,
            require_starttls=context is not None,
            authenticator=handler.authenticate,
            auth_required=context is not None,
            loop=asyncio.get_running_loop(),
        )

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    handler.port = server.sockets[0].getsockname()[1]
    try:
        yield handler
    finally:
        server.close()
        await ended(connections)


@dataclass
class Receiver:
    """Takes webhooks and answers as told; no status means no answer at all."""

    status: str | None = "200 OK"
    answer: bytes = b"ok"
    headers: tuple[str, ...] = ()
    requests: list[tuple[bytes, Any]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.partition(b":")[2])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                self.requests.append((head, json.loads(await reader.readexactly(length))))
                self.arrived.set()
                if self.status is None:
                    await reader.read()
                    break
                if not self.status:
                    break
                lines = [f"HTTP/1.1 {self.status}", f"Content-Length: {len(self.answer)}"]
                text = "\r\n".join([*lines, *self.headers, "", ""])
                writer.write(text.encode() + self.answer)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def receiver(pem: Path | None = None, **options: Any) -> AsyncIterator[Receiver]:
    """Runs a receiver of webhooks."""
    handler = Receiver(**options)
    context = server_context(pem) if pem else None
    async with accepting(handler.serve, context) as port:
        handler.url = f"{'https' if pem else 'http'}://127.0.0.1:{port}/services/T0/s3cr3t-path"
        yield handler
