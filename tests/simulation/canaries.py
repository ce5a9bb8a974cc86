"""Canaries: a secret of every agent, and what it looks like where it must never stand (I16)."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

AGENTS = ("a1", "a2", "a3")


@cache
def secret_of(agent: str) -> str:
    """Returns an agent's secret; every way to write it down makes something else of it."""
    return f'Can&ry "{agent}"/{hashlib.sha256(agent.encode()).hexdigest()[:24]}+\\'


@cache
def spellings(agent: str) -> tuple[bytes, ...]:
    """Returns what a tool may print of an agent's secret."""
    secret = secret_of(agent)
    raw = secret.encode()
    return tuple(
        dict.fromkeys(
            (
                raw,
                json.dumps(secret)[1:-1].encode(),
                html.escape(secret).encode(),
                quote(secret, safe="").encode(),
                quote_plus(secret).encode(),
                raw.hex().encode(),
                raw.hex().upper().encode(),
                base64.b64encode(raw).rstrip(b"="),
                base64.urlsafe_b64encode(raw).rstrip(b"="),
            )
        )
    )


@cache
def _patterns() -> tuple[bytes, ...]:
    """Returns all of them; of base64 also what it is in the middle of something longer."""
    patterns = {item for agent in AGENTS for item in spellings(agent)}
    for agent in AGENTS:
        for before in range(3):
            inner = base64.b64encode(b"-" * before + secret_of(agent).encode())
            # Neighbours change the characters at both ends.
            patterns.add(inner[4 if before else 0 : -4])
    return tuple(sorted(patterns))


def found_in(pieces: Iterable[bytes]) -> bytes:
    """Returns the first secret that stands in one of some pieces; nothing when none does."""
    patterns = _patterns()
    # One search after the other is far faster than one for all.
    return next((item for piece in pieces for item in patterns if item in piece), b"")
