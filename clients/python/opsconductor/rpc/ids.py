"""All identifiers, minted or derived in one place.

Minted ids are a prefix and 26 characters: 48 bits of milliseconds and 80 random bits in Crockford's
base 32 (the ULID layout, https://github.com/ulid/spec), so they sort by time. Attempt ids are
derived, so that the orchestrator, the agent and a restored database name an attempt alike.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def mint(prefix: str, now: datetime) -> str:
    """Returns ``prefix_`` and 26 characters that sort by ``now``."""
    number = (int(now.timestamp() * 1000) << 80) | secrets.randbits(80)
    return f"{prefix}_{_encode(number)}"


def attempt_id(execution_id: str, step_id: str, kind: str, number: int) -> str:
    """Returns the id of the number-th attempt (from 1) of a kind ("forward", "undo") of a step."""
    return derive("att", execution_id, step_id, kind, str(number))


def derive(prefix: str, *parts: str) -> str:
    """Returns an id that anyone who knows the parts derives alike."""
    return f"{prefix}_{_encode(int(digest_hex(*parts)[:32], 16))}"


def digest_hex(*parts: str) -> str:
    """Returns the SHA-256 of the parts, 64 hex digits; parts may not hold NUL."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _encode(number: int) -> str:
    characters = []
    for _ in range(26):
        characters.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(characters))
