"""What an executor logs in with; the value never appears in a representation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credential:
    """A login, resolved by the agent from the reference in the target."""

    kind: str = "ssh"
    username: str = ""
    private_key_file: str = ""
    """Path of a private key on the agent's host."""
    private_key: str = field(default="", repr=False)
    """A private key itself, PEM or OpenSSH."""
    passphrase: str = field(default="", repr=False)
    """Opens the private key."""
    password: str = field(default="", repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Returns the values that must not appear in output."""
        return tuple(value for value in (self.password, self.passphrase, self.private_key) if value)


Credentials = Callable[[str], Credential]
"""Resolves a reference ("" asks for the default) or raises LookupError naming what is missing."""
