"""SSH signatures (OpenSSH's PROTOCOL.sshsig), verified strictly and made.

Written here because the known libraries accept what must not count: signatures made for another
purpose, trailing bytes, options they do not know. Everything accepted here is also accepted by
``ssh-keygen -Y verify``; the reverse is not so, on purpose (see tests/contract).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.rpc import ssh_keys, ssh_wire
from opsconductor.rpc.allowed_signers import AllowedSigner, AllowedSigners, SignersInvalid
from opsconductor.rpc.ssh_keys import PublicKey, SignatureMismatch
from opsconductor.rpc.ssh_wire import Reader, WireError

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "AllowedSigner",
    "AllowedSigners",
    "SignatureRejected",
    "SignersInvalid",
    "VerifiedKey",
    "fingerprint",
    "generate_key",
    "public_line",
    "sign",
    "verify",
]

_MAGIC = b"SSHSIG"
_VERSION = 1
_BEGIN = "-----BEGIN SSH SIGNATURE-----"
_END = "-----END SSH SIGNATURE-----"
_MAX_CHARACTERS = 16 * 1024
_WIDTH = 70
_HASHES = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}


class SignatureRejected(ValueError):
    """A signature does not count; ``code`` says why in one word, ``message`` for people."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


@dataclass(frozen=True, slots=True)
class VerifiedKey:
    """The key that made a signature, and for whom it stands."""

    fingerprint: str
    principal: str


@dataclass(frozen=True, slots=True)
class _Envelope:
    key: PublicKey
    namespace: str
    hash_name: str
    signature: bytes


def verify(
    message: bytes,
    armored: str,
    *,
    namespace: str,
    signers: AllowedSigners,
    principal: str,
    at: datetime,
) -> VerifiedKey:
    """Returns the key that signed the message for a person and purpose at a time.

    Raises SignatureRejected with one of the codes SIGNATURE_MALFORMED, KEY_REFUSED,
    NAMESPACE_MISMATCH, SIGNER_UNKNOWN, SIGNER_NAMESPACE, SIGNER_NOT_YET_VALID, SIGNER_EXPIRED,
    SIGNATURE_INVALID.
    """
    envelope = _opened(armored)
    if envelope.namespace != namespace:
        raise SignatureRejected(
            "NAMESPACE_MISMATCH",
            f"the signature was made for {envelope.namespace!r}, not for {namespace!r}",
        )
    _check_signer(signers, principal, envelope.key, namespace, at)
    try:
        envelope.key.verify(
            envelope.signature, _signed_data(message, namespace, envelope.hash_name)
        )
    except WireError as error:
        raise SignatureRejected("SIGNATURE_MALFORMED", str(error)) from error
    except SignatureMismatch as error:
        raise SignatureRejected(
            "SIGNATURE_INVALID", f"{error}: not these bytes, or not this key"
        ) from error
    return VerifiedKey(envelope.key.fingerprint, principal)


def sign(message: bytes, private_key_openssh: bytes, namespace: str) -> str:
    """Returns the armored signature; raises SignatureRejected when the key cannot be used."""
    key = _private_key(private_key_openssh)
    try:
        made = ssh_keys.sign(key, _signed_data(message, namespace, "sha512"))
    except WireError as error:
        raise SignatureRejected("KEY_REFUSED", str(error)) from error
    return _armor(
        _MAGIC
        + _VERSION.to_bytes(4, "big")
        + ssh_wire.string(_public(key).blob)
        + ssh_wire.string(namespace.encode())
        + ssh_wire.string(b"")
        + ssh_wire.string(b"sha512")
        + ssh_wire.string(made),
        _WIDTH,
    )


def generate_key(comment: str = "") -> tuple[bytes, str]:
    """Returns a new Ed25519 key: the private OpenSSH file without passphrase, the public line."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return private, public_line(private, comment)


def public_line(private_key_openssh: bytes, comment: str = "") -> str:
    """Returns the public line of a private key file, as it stands in allowed_signers."""
    key = _public(_private_key(private_key_openssh))
    return f"{key.type} {base64.b64encode(key.blob).decode()} {comment}".rstrip()


def fingerprint(public: str) -> str:
    """Returns ``SHA256:…`` of a public line; raises SignatureRejected when it is none."""
    words = public.split()
    try:
        return PublicKey.from_text(words[0], words[1]).fingerprint
    except (IndexError, WireError) as error:
        raise SignatureRejected("KEY_REFUSED", f"not a public key line: {error}") from error


def _check_signer(
    signers: AllowedSigners, principal: str, key: PublicKey, namespace: str, at: datetime
) -> None:
    refusal = SignatureRejected(
        "SIGNER_UNKNOWN", f"{key.fingerprint} is not an allowed key of {principal!r}"
    )
    for entry in signers.entries_for(principal, key):
        if entry.namespaces is not None and namespace not in entry.namespaces:
            refusal = SignatureRejected(
                "SIGNER_NAMESPACE", f"{principal!r} may not sign for {namespace!r} with this key"
            )
        elif entry.valid_after is not None and at < entry.valid_after:
            refusal = SignatureRejected(
                "SIGNER_NOT_YET_VALID", f"the key of {principal!r} counts from {entry.valid_after}"
            )
        elif entry.valid_before is not None and at > entry.valid_before:
            refusal = SignatureRejected(
                "SIGNER_EXPIRED", f"the key of {principal!r} counted until {entry.valid_before}"
            )
        else:
            return
    raise refusal


def _opened(armored: str) -> _Envelope:
    try:
        reader = Reader(_unarmored(armored))
        if reader.take(len(_MAGIC)) != _MAGIC or reader.uint32() != _VERSION:
            raise WireError("not an SSH signature of version 1")
        blob, namespace, reserved = reader.string(), reader.text(), reader.string()
        hash_name, signature = reader.text(), reader.string()
        reader.end()
        if reserved:
            raise WireError("the reserved field is not empty")
        if hash_name not in _HASHES:
            raise WireError(f"unknown hash {hash_name!r}")
        return _Envelope(PublicKey.from_blob(blob), namespace, hash_name, signature)
    except ssh_keys.KeyRefused as error:
        raise SignatureRejected("KEY_REFUSED", str(error)) from error
    except WireError as error:
        raise SignatureRejected("SIGNATURE_MALFORMED", str(error)) from error


def _unarmored(armored: str) -> bytes:
    """Returns the bytes in an armor that is spelled in the one way its line width allows."""
    if len(armored) > _MAX_CHARACTERS:
        raise WireError(f"longer than {_MAX_CHARACTERS} characters")
    lines = armored.removesuffix("\n").split("\n")
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise WireError("not an armored SSH signature")
    data = ssh_keys.decode_base64("".join(lines[1:-1]))
    if _armor(data, len(lines[1])).rstrip("\n") != armored.removesuffix("\n"):
        raise WireError("the armor's lines are irregular")
    return data


def _armor(data: bytes, width: int) -> str:
    encoded = base64.b64encode(data).decode()
    lines = [encoded[start : start + width] for start in range(0, len(encoded), max(width, 1))]
    return "\n".join([_BEGIN, *lines, _END, ""])


def _signed_data(message: bytes, namespace: str, hash_name: str) -> bytes:
    return (
        _MAGIC
        + ssh_wire.string(namespace.encode())
        + ssh_wire.string(b"")
        + ssh_wire.string(hash_name.encode())
        + ssh_wire.string(_HASHES[hash_name](message).digest())
    )


def _private_key(data: bytes) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        return load_ssh_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureRejected(
            "KEY_REFUSED", f"cannot use the private key ({error}); it must be an OpenSSH key file"
        ) from error


def _public(private_key: Any) -> PublicKey:
    from cryptography.hazmat.primitives import serialization

    line: bytes = private_key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    key_type, encoded = line.decode().split()[:2]
    try:
        return PublicKey.from_text(key_type, encoded)
    except WireError as error:
        raise SignatureRejected("KEY_REFUSED", str(error)) from error
