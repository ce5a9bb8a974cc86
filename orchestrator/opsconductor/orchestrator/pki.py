"""The orchestrator's own certificate authority: server, operator, service and agent certificates.

Formats follow RFC 5280. Identities are URIs in the subject alternative name
(``opsconductor.rpc.identity``); nothing that a certificate request asks for is ever copied into a
certificate, only its public key.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from opsconductor.rpc.channel import SERVER_NAME
from opsconductor.rpc.errors import DocumentInvalid, InvalidArgument
from opsconductor.rpc.identity import Identity
from opsconductor.rpc.token_file import TokenFile, hash_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

CA_LIFETIME = timedelta(days=3650)
"""How long the CA counts."""
SERVER_LIFETIME = timedelta(days=365)
"""How long a server certificate counts."""
SERVER_RENEWAL = timedelta(days=30)
"""A server certificate with less than this left is replaced."""
# A client whose clock is a little behind must not find its new certificate "not yet valid".
BACKDATED = timedelta(minutes=5)
"""How far before its issue a certificate begins."""
_MAX_CSR_BYTES = 16 * 1024
_MIN_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A CA kept in a folder: ``ca.crt``, ``ca.key``, ``server.crt``, ``server.key``.

    Several orchestrators share the first two; each has a server certificate of its own.
    """

    directory: Path
    """Where the server's certificate is."""
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def load_or_create(
        cls, directory: Path, *, now: datetime, server: Path | None = None
    ) -> CertificateAuthority:
        """Reads the CA, or makes it at the first start; raises DocumentInvalid for a broken one.

        Args:
            directory: The CA's folder.
            now: The time.
            server: Where the server's certificate is kept, if not there.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (server or directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(directory / "ca.lock"):
            return cls._load_or_create(directory, server or directory, now)

    @classmethod
    def _load_or_create(cls, directory: Path, server: Path, now: datetime) -> CertificateAuthority:
        key_file, certificate_file = directory / "ca.key", directory / "ca.crt"
        if not key_file.exists() and not certificate_file.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            # The key goes first: a certificate without its key would look like a whole CA.
            _write(key_file, _private_pem(key), 0o600)
            _write(certificate_file, _pem(_self_signed(key, now)), 0o644)
        elif key_file.exists() and not certificate_file.exists():
            # A crash between the two files; nobody holds a certificate of this CA yet.
            _write(certificate_file, _pem(_self_signed(_load_key(key_file), now)), 0o644)
        return cls._load(server, certificate_file, key_file)

    @classmethod
    def _load(cls, server: Path, certificate_file: Path, key_file: Path) -> CertificateAuthority:
        try:
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        except (OSError, ValueError) as error:
            raise DocumentInvalid(f"{certificate_file} cannot be read: {error}") from error
        key = _load_key(key_file)
        if certificate.public_key() != key.public_key():
            raise DocumentInvalid(
                f"{certificate_file} and {key_file} do not belong together; restore both from one "
                "backup, or remove both (every agent must then enrol again)"
            )
        return cls(server, certificate, key)

    @property
    def certificate_pem(self) -> bytes:
        """The CA's certificate, what everybody trusts."""
        return _pem(self.certificate)

    def server_certificate(
        self, hosts: Sequence[str] = (), *, now: datetime
    ) -> tuple[bytes, bytes]:
        """Returns the server's (certificate, key), PEM; a new one near its end or lacking a host.

        Besides the given names and addresses it carries SERVER_NAME, localhost and 127.0.0.1.
        """
        names = _subject_names(hosts)
        key_file, certificate_file = self.directory / "server.key", self.directory / "server.crt"
        kept = self._kept_server(certificate_file, key_file, names, now)
        if kept is not None:
            return kept
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue(
            SERVER_NAME,
            key.public_key(),
            names,
            ExtendedKeyUsageOID.SERVER_AUTH,
            SERVER_LIFETIME,
            now,
        )
        _write(key_file, _private_pem(key), 0o600)
        _write(certificate_file, certificate, 0o644)
        return certificate, _private_pem(key)

    def issue_client(
        self, role: str, name: str, tenant: str, ttl: timedelta, *, now: datetime
    ) -> tuple[bytes, bytes]:
        """Makes a key and a client certificate for an identity; returns (certificate, key)."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._client(key.public_key(), role, name, tenant, ttl, now), _private_pem(key)

    def sign_csr(
        self, csr_pem: bytes, role: str, name: str, tenant: str, ttl: timedelta, *, now: datetime
    ) -> bytes:
        """Returns a client certificate, PEM, for a request's key and the identity given here.

        Raises InvalidArgument for a request that cannot be read, is not signed by its own key, or
        whose key is of a kind or size that does not count.
        """
        return self._client(_requested_key(csr_pem), role, name, tenant, ttl, now)

    def _client(
        self, key: PublicKey, role: str, name: str, tenant: str, ttl: timedelta, now: datetime
    ) -> bytes:
        try:
            uri = Identity(tenant, role, name).uri
        except ValueError as error:
            raise InvalidArgument(str(error)) from error
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._issue(name, key, [x509.UniformResourceIdentifier(uri)], usage, ttl, now)

    def _issue(
        self,
        common_name: str,
        key: PublicKey,
        names: Iterable[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        ttl: timedelta,
        now: datetime,
    ) -> bytes:
        certificate = (
            _builder(common_name, self.certificate.subject, now, ttl)
            .public_key(key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        return _pem(certificate)

    def _kept_server(
        self, certificate_file: Path, key_file: Path, names: list[x509.GeneralName], now: datetime
    ) -> tuple[bytes, bytes] | None:
        """Returns the server certificate on disk when it is still good for these names."""
        try:
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            certificate.verify_directly_issued_by(self.certificate)
            carried = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            matching = certificate.public_key() == _load_key(key_file).public_key()
        except Exception:  # noqa: BLE001 - whatever is wrong with it, a new one is the answer
            return None
        lasting = certificate.not_valid_after_utc - now >= SERVER_RENEWAL
        if not (lasting and matching and set(names) <= set(carried.value)):
            return None
        return certificate_file.read_bytes(), key_file.read_bytes()


def make_token_file(
    ca: CertificateAuthority,
    tenant: str,
    name: str,
    segment: str,
    ttl: timedelta,
    *,
    now: datetime,
) -> tuple[str, str, str]:
    """Makes a join token for one new agent; returns (file text, token, hash to store)."""
    token = secrets.token_urlsafe(32)
    certificate, key = ca.issue_client("enroll", name, tenant, ttl, now=now)
    text = TokenFile(ca.certificate_pem, certificate, key, token, name, segment).text()
    return text, token, hash_token(token)


def _requested_key(csr_pem: bytes) -> PublicKey:
    if len(csr_pem) > _MAX_CSR_BYTES:
        raise InvalidArgument(f"the certificate request is larger than {_MAX_CSR_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        signed, key = request.is_signature_valid, request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidArgument(f"the certificate request cannot be read: {error}") from error
    if not signed:
        raise InvalidArgument("the certificate request is not signed by its own key")
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(
        key.curve, ec.SECP256R1 | ec.SECP384R1
    ):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    raise InvalidArgument(
        f"the request's key must be EC on P-256 or P-384, or RSA of {_MIN_RSA_BITS} bits or more"
    )


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # The random part tells two CAs apart in every error message.
    name = f"OpsConductor CA {secrets.token_hex(4)}"
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        _builder(name, issuer, now, CA_LIFETIME)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    common_name: str, issuer: x509.Name, now: datetime, ttl: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + ttl)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys([SERVER_NAME, "localhost", "127.0.0.1", *hosts]):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _load_key(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise DocumentInvalid(f"{file} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise DocumentInvalid(f"{file} is not an EC key")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Keeps other orchestrators that start at the same time from making a CA of their own."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _write(file: Path, data: bytes, mode: int) -> None:
    """Writes a file whole or not at all; nobody else can read a key even for a moment."""
    temporary = file.with_suffix(file.suffix + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(file)
