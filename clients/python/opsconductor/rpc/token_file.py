"""The file a new agent joins with: the CA, a one-use client certificate and the token.

Everything a first contact needs is in it, so nothing is trusted on first use and the orchestrator
has no unauthenticated call.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from opsconductor.rpc.errors import TokenInvalid

_PEM = re.compile(
    r"-----BEGIN ([A-Z ]+)-----\r?\n[A-Za-z0-9+/=\r\n]+-----END \1-----", re.MULTILINE
)
_FIELD = re.compile(r"^(name|segment|token): (\S+)\s*$", re.MULTILINE)
_MAX_CHARACTERS = 64 * 1024


@dataclass(frozen=True, slots=True)
class TokenFile:
    """What a token file says. Secret."""

    ca: bytes
    """PEM certificate of the CA."""
    certificate: bytes
    """PEM client certificate that may call Enroll only."""
    key: bytes
    """PEM key of that certificate."""
    token: str
    """The token; works once."""
    name: str = ""
    """Name of the agent to come."""
    segment: str = ""
    """Its segment."""

    def text(self) -> str:
        """Returns the file's content."""
        return (
            "# OpsConductor join token: lets one new agent enrol, once. Keep it secret.\n"
            f"name: {self.name}\nsegment: {self.segment}\ntoken: {self.token}\n"
            f"{self.ca.decode()}{self.certificate.decode()}{self.key.decode()}"
        )


def parse_token_file(text: str) -> TokenFile:
    """Reads a token file; raises TokenInvalid saying what is missing."""
    blocks: dict[str, list[bytes]] = {"CERTIFICATE": [], "PRIVATE KEY": []}
    for match in _PEM.finditer(text[:_MAX_CHARACTERS]):
        blocks.setdefault(match[1], []).append(match[0].encode() + b"\n")
    fields = dict(_FIELD.findall(text[:_MAX_CHARACTERS]))
    certificates, keys = blocks["CERTIFICATE"], blocks["PRIVATE KEY"]
    if len(certificates) != 2 or len(keys) != 1 or "token" not in fields:
        raise TokenInvalid(
            "this is not a whole token file: it must hold a line 'token: …', two certificates and "
            f"one private key, but has {'a' if 'token' in fields else 'no'} token, "
            f"{len(certificates)} certificates and {len(keys)} private keys; "
            "make a new one with 'opsctl agents token create'"
        )
    return TokenFile(
        ca=certificates[0],
        certificate=certificates[1],
        key=keys[0],
        token=fields["token"],
        name=fields.get("name", ""),
        segment=fields.get("segment", ""),
    )


def hash_token(token: str) -> str:
    """Returns the only form in which a token is stored: SHA-256 of its text, hex."""
    return hashlib.sha256(token.encode()).hexdigest()
