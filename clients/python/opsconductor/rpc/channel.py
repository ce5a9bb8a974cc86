"""How both ends open their side of a connection: TLS, keepalive and limits."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, overload

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

Options = list[tuple[str, str | int]]

SERVER_NAME = "opsconductor-orchestrator"
"""The name every server certificate carries; endpoints are addresses, never identities."""
CLIENT_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest message a client takes."""
AGENT_MESSAGE_BYTES = 1024 * 1024
"""Largest message an agent takes or sends."""
# A plan document may be 4 MiB; its envelope must not make the transport refuse what Submit allows.
SERVER_MESSAGE_BYTES = CLIENT_MESSAGE_BYTES + 64 * 1024
"""Largest message the orchestrator takes."""

_PING_MS = 10_000
_PING_TIMEOUT_MS = 5_000


@dataclass(frozen=True, slots=True)
class ClientTls:
    """What a caller proves itself with, and the CA it trusts; all PEM."""

    ca: bytes
    certificate: bytes
    key: bytes

    @classmethod
    def load(cls, ca_file: Path | str, cert_file: Path | str, key_file: Path | str) -> ClientTls:
        """Reads the three files; raises OSError naming the one that cannot be read."""
        return cls(*(Path(file).read_bytes() for file in (ca_file, cert_file, key_file)))

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns them as gRPC credentials."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)


def channel_options(
    endpoint: str = "",
    *,
    max_receive_bytes: int = CLIENT_MESSAGE_BYTES,
    max_send_bytes: int = SERVER_MESSAGE_BYTES,
) -> Options:
    """Returns the options of an outbound connection.

    The ping timeout is set beside the keepalive: without it only a dropped link is noticed at once,
    a frozen peer after a minute.
    """
    options: Options = [
        ("grpc.ssl_target_name_override", SERVER_NAME),
        ("grpc.keepalive_time_ms", _PING_MS),
        ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Bounds a connection attempt, TLS handshake included: on a busy machine it takes its time.
        ("grpc.min_reconnect_backoff_ms", 10_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", max_receive_bytes),
        ("grpc.max_send_message_length", max_send_bytes),
    ]
    if _is_loopback(endpoint):
        options.append(("grpc.enable_http_proxy", 0))
    return options


def server_options() -> Options:
    """Returns the options of the listening side.

    Without the lowered ping interval the server would answer keepalive pings of idle agents with
    "too many pings" and drop them. The port is never shared: a second process must fail, not steal
    half of the connections.
    """
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", _PING_MS),
        ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _PING_MS // 2),
        ("grpc.http2.max_ping_strikes", 4),
        ("grpc.max_concurrent_streams", 256),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.max_receive_message_length", SERVER_MESSAGE_BYTES),
        ("grpc.max_send_message_length", CLIENT_MESSAGE_BYTES),
    ]


def server_credentials(
    current: Callable[[], tuple[bytes, bytes]], ca: bytes
) -> grpc.ServerCredentials:
    """Returns credentials that demand a client certificate of the CA.

    ``current`` gives the server's (certificate, key) and is asked at every handshake, so that a new
    certificate is used without a restart.
    """
    certificate, key = current()
    held = (certificate, key)

    def configuration() -> grpc.ServerCertificateConfiguration:
        nonlocal held
        newest = current()
        if newest == held:
            # gRPC's own word for "no change", which its stubs do not know.
            return cast("grpc.ServerCertificateConfiguration", None)
        held = newest
        return grpc.ssl_server_certificate_configuration([(held[1], held[0])], ca)

    return grpc.dynamic_ssl_server_credentials(
        grpc.ssl_server_certificate_configuration([(key, certificate)], ca),
        configuration,
        require_client_authentication=True,
    )


@overload
def open_channel(
    endpoint: str,
    tls: ClientTls,
    *,
    aio: Literal[True] = True,
    max_receive_bytes: int = CLIENT_MESSAGE_BYTES,
    max_send_bytes: int = SERVER_MESSAGE_BYTES,
) -> grpc.aio.Channel: ...


@overload
def open_channel(
    endpoint: str,
    tls: ClientTls,
    *,
    aio: Literal[False],
    max_receive_bytes: int = CLIENT_MESSAGE_BYTES,
    max_send_bytes: int = SERVER_MESSAGE_BYTES,
) -> grpc.Channel: ...


def open_channel(
    endpoint: str,
    tls: ClientTls,
    *,
    aio: bool = True,
    max_receive_bytes: int = CLIENT_MESSAGE_BYTES,
    max_send_bytes: int = SERVER_MESSAGE_BYTES,
) -> grpc.aio.Channel | grpc.Channel:
    """Opens a mutually authenticated channel to ``host:port``; connects at the first call."""
    options = channel_options(
        endpoint, max_receive_bytes=max_receive_bytes, max_send_bytes=max_send_bytes
    )
    if aio:
        return grpc.aio.secure_channel(endpoint, tls.credentials(), options)
    return grpc.secure_channel(endpoint, tls.credentials(), options)


def keep_engine() -> grpc.aio.Channel:
    """Opens a channel that never connects; while it is open, gRPC keeps its threads.

    gRPC takes them down with a process's last channel. Where that waits for a thread which waits
    for Python, the process stands still for ever (grpc/grpc#42247), so who connects over and over
    keeps one open.
    """
    return grpc.aio.insecure_channel("unix:///dev/null")


def _is_loopback(endpoint: str) -> bool:
    host = endpoint.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or endpoint.startswith("unix:")
