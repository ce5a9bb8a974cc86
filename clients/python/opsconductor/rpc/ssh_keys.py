"""SSH public keys: reading them, and checking and making signatures with them.

Formats: RFC 4253 (RSA), 5656 (ECDSA), 8332 (RSA with SHA-2), 8709 (Ed25519) and OpenSSH's
PROTOCOL.u2f (keys on FIDO tokens). Certificates, DSA and RSA with SHA-1 do not exist here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.rpc import ssh_wire
from opsconductor.rpc.ssh_wire import Reader, WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

MIN_RSA_BITS = 2048
"""Shorter RSA keys are refused."""
MAX_RSA_BITS = 16384
"""Longer RSA keys are refused: checking them takes an attacker's time of our choosing."""

_ED25519 = "ssh-ed25519"
_RSA = "ssh-rsa"
_SK_ED25519 = "sk-ssh-ed25519@openssh.com"
_SK_ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com"
_CURVES = {"nistp256": 32, "nistp384": 48, "nistp521": 66}
_USER_PRESENT = 0x01


class KeyRefused(WireError):
    """The key is of a kind or size that does not count."""


class SignatureMismatch(ValueError):
    """The signature is not of these bytes by this key."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key that may sign."""

    type: str
    """Its type as written in files, such as ssh-ed25519."""
    blob: bytes
    """Its wire form; two keys are the same when these are."""

    @property
    def fingerprint(self) -> str:
        """``SHA256:…`` as ssh-keygen prints it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest())
        return "SHA256:" + digest.decode().rstrip("=")

    @classmethod
    def from_blob(cls, blob: bytes) -> PublicKey:
        """Reads the wire form; raises KeyRefused or WireError."""
        reader = Reader(blob)
        key_type = reader.text()
        check = _KEY_CHECKS.get(key_type)
        if check is None:
            raise KeyRefused(f"keys of type {key_type!r} are not accepted")
        check(reader, key_type)
        reader.end()
        return cls(key_type, blob)

    @classmethod
    def from_text(cls, key_type: str, encoded: str) -> PublicKey:
        """Reads the two words of a public key line; raises KeyRefused or WireError."""
        key = cls.from_blob(decode_base64(encoded))
        if key.type != key_type:
            raise WireError(f"the line says {key_type!r}, the key itself is {key.type!r}")
        return key

    def verify(self, signature: bytes, data: bytes) -> None:
        """Returns when the signature is of the data; raises SignatureMismatch or WireError."""
        # Heavy, so imported by those who verify only.
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

        reader = Reader(signature)
        algorithm = reader.text()
        verify = _VERIFIERS.get((self.type, algorithm))
        if verify is None:
            raise WireError(f"a key of type {self.type!r} does not make {algorithm!r} signatures")
        key = Reader(self.blob)
        key.text()
        try:
            verify(key, reader, data)
        except InvalidSignature as error:
            raise SignatureMismatch("the signature does not match") from error
        except UnsupportedAlgorithm as error:
            raise KeyRefused(f"this machine cannot check {algorithm} signatures") from error


def decode_base64(text: str) -> bytes:
    """Decodes canonical base64; raises WireError for any other spelling of the same bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError("not base64") from error
    if base64.b64encode(data).decode() != text:
        raise WireError("not canonical base64")
    return data


def sign(private_key: Any, data: bytes) -> bytes:
    """Returns the wire form of a signature by a key of ``cryptography``; raises KeyRefused."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
    from cryptography.hazmat.primitives.hashes import SHA512

    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return ssh_wire.string(_ED25519.encode()) + ssh_wire.string(private_key.sign(data))
    if isinstance(private_key, rsa.RSAPrivateKey) and private_key.key_size >= MIN_RSA_BITS:
        made = private_key.sign(data, padding.PKCS1v15(), SHA512())
        return ssh_wire.string(b"rsa-sha2-512") + ssh_wire.string(made)
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        curve = _CURVE_BY_BITS.get(private_key.curve.key_size, "")
        made = private_key.sign(data, ec.ECDSA(_curve_hash(curve)))
        r, s = utils.decode_dss_signature(made)
        return ssh_wire.string(b"ecdsa-sha2-" + curve.encode()) + ssh_wire.string(
            ssh_wire.mpint(r) + ssh_wire.mpint(s)
        )
    raise KeyRefused("only Ed25519, ECDSA (NIST) and RSA keys of 2048 bits or more can sign")


def _check_ed25519(reader: Reader, _key_type: str) -> None:
    if len(reader.string()) != 32:
        raise WireError("an Ed25519 key has 32 bytes")


def _check_rsa(reader: Reader, _key_type: str) -> None:
    exponent, modulus = reader.positive(), reader.positive()
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise KeyRefused(f"RSA keys need {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
    if not 3 <= exponent < 2**32 or exponent % 2 == 0 or modulus % 2 == 0:
        raise WireError("not an RSA key")


def _check_ecdsa(reader: Reader, key_type: str) -> None:
    curve = key_type.partition("@")[0].rpartition("-")[2]
    if reader.text() != curve:
        raise WireError("the key's curve is not that of its type")
    _ec_key(curve, reader.string())


def _check_sk_ed25519(reader: Reader, key_type: str) -> None:
    _check_ed25519(reader, key_type)
    reader.text()


def _check_sk_ecdsa(reader: Reader, key_type: str) -> None:
    _check_ecdsa(reader, key_type)
    reader.text()


def _verify_ed25519(key: Reader, signature: Reader, data: bytes) -> None:
    made = signature.string()
    signature.end()
    _ed25519_verify(key.string(), made, data)


def _verify_rsa(algorithm: str) -> Callable[[Reader, Reader, bytes], None]:
    def verify(key: Reader, signature: Reader, data: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
        from cryptography.hazmat.primitives.hashes import SHA256, SHA512

        made = signature.string()
        signature.end()
        exponent, modulus = key.positive(), key.positive()
        if len(made) != (modulus.bit_length() + 7) // 8:
            raise WireError("the signature has not the size of the key")
        digest = SHA256() if algorithm == "rsa-sha2-256" else SHA512()
        public = rsa.RSAPublicNumbers(exponent, modulus).public_key()
        public.verify(made, data, padding.PKCS1v15(), digest)

    return verify


def _verify_ecdsa(key: Reader, signature: Reader, data: bytes) -> None:
    made = signature.string()
    signature.end()
    curve = key.text()
    _ecdsa_verify(curve, key.string(), made, data)


def _verify_sk_ed25519(key: Reader, signature: Reader, data: bytes) -> None:
    public, application = key.string(), key.string()
    made = signature.string()
    _ed25519_verify(public, made, _token_data(application, signature, data))


def _verify_sk_ecdsa(key: Reader, signature: Reader, data: bytes) -> None:
    curve, point, application = key.text(), key.string(), key.string()
    made = signature.string()
    _ecdsa_verify(curve, point, made, _token_data(application, signature, data))


def _token_data(application: bytes, signature: Reader, data: bytes) -> bytes:
    """Returns what a FIDO token really signed; a signature without a touch does not count."""
    rest = signature.take(5)
    signature.end()
    if not rest[0] & _USER_PRESENT:
        raise SignatureMismatch("the token was not touched")
    return hashlib.sha256(application).digest() + rest + hashlib.sha256(data).digest()


def _ed25519_verify(public: bytes, made: bytes, data: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(made) != 64:
        raise WireError("an Ed25519 signature has 64 bytes")
    Ed25519PublicKey.from_public_bytes(public).verify(made, data)


def _ecdsa_verify(curve: str, point: bytes, made: bytes, data: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    numbers = Reader(made)
    der = encode_dss_signature(numbers.positive(), numbers.positive())
    numbers.end()
    _ec_key(curve, point).verify(der, data, ECDSA(_curve_hash(curve)))


def _ec_key(curve: str, point: bytes) -> EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    kinds = {"nistp256": ec.SECP256R1(), "nistp384": ec.SECP384R1(), "nistp521": ec.SECP521R1()}
    if len(point) != 1 + 2 * _CURVES[curve] or point[0] != 4:
        raise WireError("the key's point is not in uncompressed form")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(kinds[curve], point)
    except ValueError as error:
        raise WireError("the key's point is not on its curve") from error


def _curve_hash(curve: str) -> HashAlgorithm:
    from cryptography.hazmat.primitives import hashes

    if curve == "nistp256":
        return hashes.SHA256()
    if curve == "nistp384":
        return hashes.SHA384()
    if curve == "nistp521":
        return hashes.SHA512()
    raise KeyRefused("only the curves nistp256, nistp384 and nistp521 are accepted")


_CURVE_BY_BITS = {256: "nistp256", 384: "nistp384", 521: "nistp521"}
_KEY_CHECKS: dict[str, Callable[[Reader, str], None]] = {
    _ED25519: _check_ed25519,
    _RSA: _check_rsa,
    _SK_ED25519: _check_sk_ed25519,
    _SK_ECDSA: _check_sk_ecdsa,
    **{f"ecdsa-sha2-{curve}": _check_ecdsa for curve in _CURVES},
}
_VERIFIERS: dict[tuple[str, str], Callable[[Reader, Reader, bytes], None]] = {
    (_ED25519, _ED25519): _verify_ed25519,
    (_RSA, "rsa-sha2-256"): _verify_rsa("rsa-sha2-256"),
    (_RSA, "rsa-sha2-512"): _verify_rsa("rsa-sha2-512"),
    (_SK_ED25519, _SK_ED25519): _verify_sk_ed25519,
    (_SK_ECDSA, _SK_ECDSA): _verify_sk_ecdsa,
    **{(f"ecdsa-sha2-{curve}", f"ecdsa-sha2-{curve}"): _verify_ecdsa for curve in _CURVES},
}

KEY_TYPES = frozenset(_KEY_CHECKS)
"""Every type of key that is accepted."""
