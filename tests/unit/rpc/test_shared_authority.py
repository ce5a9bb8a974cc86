"""Orchestrators that share a certificate authority keep server certificates of their own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509

from opsconductor.orchestrator.pki import CertificateAuthority

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_orchestrators_that_start_at_once_make_one_authority(tmp_path: Path) -> None:
    def start(number: int) -> bytes:
        ca = CertificateAuthority.load_or_create(
            tmp_path / "pki", now=NOW, server=tmp_path / str(number)
        )
        return ca.certificate_pem

    with ThreadPoolExecutor(8) as starting:
        made = set(starting.map(start, range(8)))
    assert len(made) == 1


def test_each_has_a_server_certificate_for_its_own_names(tmp_path: Path) -> None:
    for number in (1, 2):
        ca = CertificateAuthority.load_or_create(
            tmp_path / "pki", now=NOW, server=tmp_path / str(number)
        )
        pem, _ = ca.server_certificate([f"host-{number}"], now=NOW)
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.verify_directly_issued_by(ca.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert f"host-{number}" in names.get_values_for_type(x509.DNSName)
    assert not (tmp_path / "pki" / "server.key").exists()
    assert (tmp_path / "1" / "server.crt").read_bytes() != (
        tmp_path / "2" / "server.crt"
    ).read_bytes()
