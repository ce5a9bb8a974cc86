"""SSH keys of every kind for tests, and signatures as a FIDO token makes them."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from opsconductor.rpc import ssh_wire

KINDS = ("ed25519", "ecdsa256", "ecdsa384", "ecdsa521", "rsa2048")


def private_key(kind: str) -> bytes:
    """Returns a new private key file."""
    keys: dict[str, Any] = {
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ecdsa256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ecdsa384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "ecdsa521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
        "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
    }
    return openssh(keys[kind]())


def openssh(key: Any) -> bytes:
    """Returns a key as ssh-keygen writes it."""
    data: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return data


def envelope(
    key_blob: bytes,
    signature: bytes,
    *,
    namespace: str,
    magic: bytes = b"SSHSIG",
    version: int = 1,
    reserved: bytes = b"",
    hash_name: str = "sha512",
    trailer: bytes = b"",
    width: int = 70,
) -> str:
    """Returns an armored signature of the given parts."""
    data = (
        magic
        + version.to_bytes(4, "big")
        + ssh_wire.string(key_blob)
        + ssh_wire.string(namespace.encode())
        + ssh_wire.string(reserved)
        + ssh_wire.string(hash_name.encode())
        + ssh_wire.string(signature)
        + trailer
    )
    return armor(data, width)


def armor(data: bytes, width: int = 70) -> str:
    """Returns bytes in the armor of SSH signatures."""
    text = base64.b64encode(data).decode()
    lines = [text[start : start + width] for start in range(0, len(text), width)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def unarmor(text: str) -> bytes:
    """Returns the bytes in an armor."""
    return base64.b64decode("".join(text.strip().split("\n")[1:-1]))


def signed_data(message: bytes, namespace: str, hash_name: str = "sha512") -> bytes:
    """Returns what a key signs (PROTOCOL.sshsig)."""
    digest = hashlib.new(hash_name, message).digest()
    parts = (namespace.encode(), b"", hash_name.encode(), digest)
    return b"SSHSIG" + b"".join(ssh_wire.string(part) for part in parts)


class Token:
    """A FIDO token in software (PROTOCOL.u2f)."""

    def __init__(self, kind: str, application: bytes = b"ssh:") -> None:
        self.kind = kind
        self.application = application
        self.key: Any
        if kind == "ed25519":
            self.type = b"sk-ssh-ed25519@openssh.com"
            self.key = ed25519.Ed25519PrivateKey.generate()
            public = ssh_wire.string(self.key.public_key().public_bytes_raw())
        else:
            self.type = b"sk-ecdsa-sha2-nistp256@openssh.com"
            self.key = ec.generate_private_key(ec.SECP256R1())
            point = self.key.public_key().public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            )
            public = ssh_wire.string(b"nistp256") + ssh_wire.string(point)
        self.blob = ssh_wire.string(self.type) + public + ssh_wire.string(application)
        self.line = f"{self.type.decode()} {base64.b64encode(self.blob).decode()}"

    def sign(self, message: bytes, namespace: str, *, flags: int = 1, counter: int = 7) -> str:
        """Returns an armored signature."""
        rest = bytes([flags]) + counter.to_bytes(4, "big")
        data = (
            hashlib.sha256(self.application).digest()
            + rest
            + hashlib.sha256(signed_data(message, namespace)).digest()
        )
        if self.kind == "ed25519":
            made: bytes = self.key.sign(data)
        else:
            r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
            made = ssh_wire.mpint(r) + ssh_wire.mpint(s)
        signature = ssh_wire.string(self.type) + ssh_wire.string(made) + rest
        return envelope(self.blob, signature, namespace=namespace)
