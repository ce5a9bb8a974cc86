"""Who calls: the identity in a verified client certificate, the only one the servers know.

It is one URI in the certificate's subject alternative name:
``spiffe://opsconductor/t/<tenant>/<role>/<name>``.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from opsconductor.rpc.errors import PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    AuthContext = Mapping[str, Iterable[bytes]]

ROLES = frozenset({"operator", "service", "agent", "enroll"})
"""Every role an identity can have."""

_PREFIX = "spiffe://opsconductor/"
_WORD = r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}"
_URI = re.compile(rf"spiffe://opsconductor/t/({_WORD})/({'|'.join(sorted(ROLES))})/({_WORD})")


class CallContext(Protocol):
    """The part of a servicer context that knows the connection."""

    def auth_context(self) -> AuthContext:
        """Returns what the handshake proved."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A tenant's operator, service, agent or would-be agent."""

    tenant: str
    """Tenant it belongs to."""
    role: str
    """One of ROLES."""
    name: str
    """Unique among the tenant's identities of this role."""

    def __post_init__(self) -> None:
        """Refuses parts that could be read as another identity."""
        if not _URI.fullmatch(self.uri):
            raise ValueError(
                f"no identity can be made of tenant {self.tenant!r}, role {self.role!r}, "
                f"name {self.name!r}: names are 1 to 64 of A-Z a-z 0-9 . _ @ + - "
                f"and roles are {', '.join(sorted(ROLES))}"
            )

    @property
    def uri(self) -> str:
        """The identity as it stands in a certificate."""
        return f"{_PREFIX}t/{self.tenant}/{self.role}/{self.name}"

    @classmethod
    def parse(cls, uri: str) -> Identity | None:
        """Reads an identity's URI; None when it is none of ours."""
        match = _URI.fullmatch(uri)
        return cls(*match.groups()) if match else None


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The certificate a caller proved to hold."""

    sha256: str
    """SHA-256 of its DER form, hex."""
    not_after: datetime
    """When it ends; TLS streams outlive it, so sessions are ended by hand."""


def identity_from(auth_context: AuthContext) -> Identity | None:
    """Reads the identity of a connection; None without TLS or with anything but exactly one."""
    if list(auth_context.get("transport_security_type", ())) != [b"ssl"]:
        return None
    names = [
        name.decode("ascii", errors="replace")
        for name in auth_context.get("x509_subject_alternative_name", ())
    ]
    claims = [name for name in names if name.lower().startswith("spiffe:")]
    return Identity.parse(claims[0]) if len(claims) == 1 else None


def identity_of(context: CallContext) -> Identity:
    """Returns the identity of a caller; raises PermissionDenied when the connection proves none."""
    identity = identity_from(context.auth_context())
    if identity is None:
        raise PermissionDenied(
            "the connection carries no OpsConductor identity: call over TLS with a client "
            "certificate issued by this orchestrator"
        )
    return identity


def certificate_of(context: CallContext) -> PeerCertificate:
    """Returns the caller's certificate; raises PermissionDenied when the connection has none."""
    from cryptography import x509  # heavy, and clients never come here

    pem = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
    if not pem:
        raise PermissionDenied("the connection carries no client certificate")
    der = ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))
    certificate = x509.load_der_x509_certificate(der)
    return PeerCertificate(hashlib.sha256(der).hexdigest(), certificate.not_valid_after_utc)
