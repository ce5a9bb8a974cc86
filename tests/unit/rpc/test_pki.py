"""Certificates carry what the CA decides and nothing that was asked for."""

from __future__ import annotations

import stat
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from opsconductor.orchestrator.pki import CertificateAuthority, make_token_file
from opsconductor.rpc.errors import DocumentInvalid, InvalidArgument
from opsconductor.rpc.token_file import hash_token, parse_token_file

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

DAY = timedelta(days=1)


def names_of(certificate: x509.Certificate) -> list[object]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [name.value for name in extension.value]


def request(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
) -> bytes:
    """Makes a request that asks for far too much."""
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier("spiffe://opsconductor/t/default/operator/root")]
            ),
            critical=False,
        )
    )
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def test_the_ca_is_made_once_and_found_again(tmp_path: Path, now: datetime) -> None:
    made = CertificateAuthority.load_or_create(tmp_path / "pki", now=now)
    found = CertificateAuthority.load_or_create(tmp_path / "pki", now=now + DAY)
    assert found.certificate_pem == made.certificate_pem
    assert made.certificate.not_valid_after_utc - now > timedelta(days=3600)


def test_keys_can_be_read_by_their_owner_only(ca: CertificateAuthority, now: datetime) -> None:
    ca.server_certificate(now=now)
    assert stat.S_IMODE(ca.directory.stat().st_mode) == 0o700
    for name in ("ca.key", "server.key"):
        assert stat.S_IMODE((ca.directory / name).stat().st_mode) == 0o600


def test_a_crash_between_key_and_certificate_is_mended(tmp_path: Path, now: datetime) -> None:
    made = CertificateAuthority.load_or_create(tmp_path, now=now)
    (tmp_path / "ca.crt").unlink()
    mended = CertificateAuthority.load_or_create(tmp_path, now=now)
    assert mended.key.public_key() == made.key.public_key()


def test_a_ca_without_its_key_is_told_and_not_replaced(tmp_path: Path, now: datetime) -> None:
    CertificateAuthority.load_or_create(tmp_path, now=now)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(DocumentInvalid, match=r"ca\.key cannot be read"):
        CertificateAuthority.load_or_create(tmp_path, now=now)
    assert not (tmp_path / "ca.key").exists()


def test_files_of_two_cas_are_told_apart(tmp_path: Path, now: datetime) -> None:
    one = CertificateAuthority.load_or_create(tmp_path / "1", now=now)
    CertificateAuthority.load_or_create(tmp_path / "2", now=now)
    (tmp_path / "2" / "ca.crt").write_bytes(one.certificate_pem)
    with pytest.raises(DocumentInvalid, match="do not belong together"):
        CertificateAuthority.load_or_create(tmp_path / "2", now=now)


def test_the_server_certificate_names_host_and_address(
    ca: CertificateAuthority, now: datetime
) -> None:
    pem, _ = ca.server_certificate(["ops.example", "10.1.2.3"], now=now)
    certificate = x509.load_pem_x509_certificate(pem)
    assert [str(name) for name in names_of(certificate)] == [
        "opsconductor-orchestrator",
        "localhost",
        "127.0.0.1",
        "ops.example",
        "10.1.2.3",
    ]
    certificate.verify_directly_issued_by(ca.certificate)


def test_the_server_certificate_is_kept_until_a_month_before_its_end(
    ca: CertificateAuthority, now: datetime
) -> None:
    first = ca.server_certificate(now=now)
    assert ca.server_certificate(now=now + 334 * DAY) == first
    assert ca.server_certificate(now=now + 336 * DAY) != first


def test_a_new_host_gets_a_new_server_certificate(ca: CertificateAuthority, now: datetime) -> None:
    first = ca.server_certificate(["a.example"], now=now)
    assert ca.server_certificate([], now=now) == first
    assert ca.server_certificate(["b.example"], now=now) != first


def test_a_damaged_server_certificate_is_replaced(ca: CertificateAuthority, now: datetime) -> None:
    ca.server_certificate(now=now)
    (ca.directory / "server.crt").write_text("damaged")
    pem, _ = ca.server_certificate(now=now)
    x509.load_pem_x509_certificate(pem).verify_directly_issued_by(ca.certificate)


def test_a_client_certificate_carries_one_identity_and_no_other_right(
    ca: CertificateAuthority, now: datetime
) -> None:
    pem, key_pem = ca.issue_client("operator", "alice", "default", DAY, now=now)
    certificate = x509.load_pem_x509_certificate(pem)
    assert names_of(certificate) == ["spiffe://opsconductor/t/default/operator/alice"]
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert certificate.not_valid_after_utc == (now + DAY).replace(microsecond=0)
    key = serialization.load_pem_private_key(key_pem, None)
    assert key.public_key() == certificate.public_key()


def test_a_request_gets_its_key_certified_and_nothing_it_asks_for(
    ca: CertificateAuthority, now: datetime
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = ca.sign_csr(request(key), "agent", "agent-1", "default", DAY, now=now)
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.public_key() == key.public_key()
    assert names_of(certificate) == ["spiffe://opsconductor/t/default/agent/agent-1"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "admin" not in certificate.subject.rfc4514_string()


def test_requests_of_rsa_keys_are_taken_too(ca: CertificateAuthority, now: datetime) -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert ca.sign_csr(request(key), "agent", "agent-1", "default", DAY, now=now)


def tampered(csr: bytes) -> bytes:
    der = bytearray(x509.load_pem_x509_csr(csr).public_bytes(serialization.Encoding.DER))
    der[der.index(b"admin")] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("csr", "why"),
    [
        (b"", "cannot be read"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----", "read"),
        (b"x" * 20_000, "larger"),
        (tampered(request(ec.generate_private_key(ec.SECP256R1()))), "not signed by its own key"),
        (request(ec.generate_private_key(ec.SECP521R1())), "P-256"),
        (request(rsa.generate_private_key(65537, 1024)), "2048"),
        (request(ed25519.Ed25519PrivateKey.generate()), "P-256"),
    ],
    ids=["empty", "garbage", "huge", "tampered", "odd-curve", "short-rsa", "ed25519"],
)
def test_a_bad_request_is_refused(
    ca: CertificateAuthority, now: datetime, csr: bytes, why: str
) -> None:
    with pytest.raises(InvalidArgument, match=why):
        ca.sign_csr(csr, "agent", "agent-1", "default", DAY, now=now)


@pytest.mark.parametrize(("role", "name"), [("root", "x"), ("agent", "a/../b"), ("agent", "")])
def test_no_certificate_is_made_for_an_impossible_identity(
    ca: CertificateAuthority, now: datetime, role: str, name: str
) -> None:
    with pytest.raises(InvalidArgument, match="no identity"):
        ca.issue_client(role, name, "default", DAY, now=now)


def test_a_token_file_holds_all_that_a_first_contact_needs(
    ca: CertificateAuthority, now: datetime
) -> None:
    ttl = timedelta(minutes=15)
    text, token, stored = make_token_file(ca, "default", "agent-dmz", "dmz", ttl, now=now)
    read = parse_token_file(text)
    assert (read.token, read.name, read.segment) == (token, "agent-dmz", "dmz")
    assert read.ca == ca.certificate_pem
    certificate = x509.load_pem_x509_certificate(read.certificate)
    assert names_of(certificate) == ["spiffe://opsconductor/t/default/enroll/agent-dmz"]
    assert certificate.not_valid_after_utc - now <= ttl
    assert serialization.load_pem_private_key(read.key, None).public_key() == (
        certificate.public_key()
    )
    assert stored == hash_token(token)
    assert token not in stored


def test_every_token_differs(ca: CertificateAuthority, now: datetime) -> None:
    tokens = {make_token_file(ca, "t", "a", "s", DAY, now=now)[1] for _ in range(20)}
    assert len(tokens) == 20
    assert all(len(token) >= 43 for token in tokens)
