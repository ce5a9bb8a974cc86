"""Says what is wrong with a context's certificate.

An orchestrator that does not accept a certificate closes the connection, and gRPC tells no reason:
what can be seen from here is looked at here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.x509 import Certificate

    from opsconductor.client.context import Context


def certificate_problem(context: Context, now: datetime | None = None) -> str:
    """Returns why the orchestrator of a context would refuse its certificate; empty when sound."""
    from cryptography.exceptions import InvalidSignature

    now = now or datetime.now(UTC)
    try:
        own, authority = _read(context.cert_file), _read(context.ca_file)
    except (OSError, ValueError) as error:
        return f"the context's certificate cannot be read: {error}"
    try:
        own.verify_directly_issued_by(authority)
    except (InvalidSignature, TypeError, ValueError):
        return (
            f"{context.cert_file} was not issued by the CA in {context.ca_file}: the orchestrator "
            "refuses it; use the context of this deployment"
        )
    if now > own.not_valid_after_utc:
        return f"{context.cert_file} expired on {own.not_valid_after_utc:%Y-%m-%d %H:%M}Z"
    if now < own.not_valid_before_utc:
        begin = own.not_valid_before_utc
        return f"{context.cert_file} is valid only from {begin:%Y-%m-%d %H:%M}Z: check the clock"
    return ""


def _read(path: Path) -> Certificate:
    from cryptography import x509

    return x509.load_pem_x509_certificate(path.read_bytes())
