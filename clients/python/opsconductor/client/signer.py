"""Who signs: a person and the key that stands for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from opsconductor.rpc.errors import InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path


class Signer(Protocol):
    """Signs statements in a person's name."""

    @property
    def name(self) -> str:
        """The person, as in allowed_signers."""

    def sign(self, message: bytes, namespace: str) -> str:
        """Returns an armored SSHSIG over the message."""


@dataclass(frozen=True, slots=True)
class KeyFileSigner:
    """Signs with a private key file in OpenSSH format, without passphrase."""

    name: str
    key_file: Path

    def sign(self, message: bytes, namespace: str) -> str:
        """Returns an armored SSHSIG; raises InvalidArgument when the key cannot be used."""
        from opsconductor.rpc import sshsig  # needs cryptography, which plain clients lack

        try:
            return sshsig.sign(message, self.key_file.read_bytes(), namespace)
        except (OSError, sshsig.SignatureRejected) as error:
            raise InvalidArgument(f"cannot sign with {self.key_file}: {error}") from error
