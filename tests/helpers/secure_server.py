"""A grpc.aio server with production options, credentials and interceptors, and its callers."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import grpc

from opsconductor.rpc.channel import ClientTls, open_channel, server_credentials, server_options
from opsconductor.rpc.interceptors import server_interceptors

if TYPE_CHECKING:
    from datetime import datetime

    from opsconductor.orchestrator.pki import CertificateAuthority


class SecureServer:
    """Listens on a port of the loopback address; 0 takes a free one."""

    def __init__(self, ca: CertificateAuthority, now: datetime, port: int = 0) -> None:
        self.ca = ca
        self.now = now
        self.certificate = ca.server_certificate(now=now)
        self.server = grpc.aio.server(interceptors=server_interceptors(), options=server_options())
        credentials = server_credentials(lambda: self.certificate, ca.certificate_pem)
        self.port = self.server.add_secure_port(f"127.0.0.1:{port}", credentials)
        self.endpoint = f"127.0.0.1:{self.port}"

    def tls(
        self, role: str = "operator", name: str = "alice", tenant: str = "default"
    ) -> ClientTls:
        """Returns what an identity calls with."""
        hour = timedelta(hours=1)
        certificate, key = self.ca.issue_client(role, name, tenant, hour, now=self.now)
        return ClientTls(self.ca.certificate_pem, certificate, key)

    def channel(
        self, role: str = "operator", name: str = "alice", tenant: str = "default"
    ) -> grpc.aio.Channel:
        """Opens a channel as an identity."""
        return open_channel(self.endpoint, self.tls(role, name, tenant))
