"""Masks known secrets in output, whatever way they are encoded and however output is cut.

Leftmost-longest over all encodings. Not found: secrets that a tool transformed in another way
(reversed, compressed, split by itself).
"""

from __future__ import annotations

import base64
import bisect
import html
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MASK = b"[REDACTED]"
SHORTEST_SECRET = 6
"""A shorter one would mask half the output and still be guessed from the rest."""

_SHORTEST_LINE = 16


class Redactor:
    """Finds the encodings of some secrets; ``stream()`` gives the state of one stream."""

    def __init__(self, secrets: Iterable[str]) -> None:
        patterns: set[bytes] = set()
        for secret in secrets:
            if len(secret) < SHORTEST_SECRET:
                raise ValueError(f"a secret has fewer than {SHORTEST_SECRET} characters")
            patterns.update(_encodings(secret), _key_lines(secret))
        self._sorted = sorted(pattern for pattern in patterns if len(pattern) >= SHORTEST_SECRET)
        self._longest = max(map(len, self._sorted), default=0)
        self._firsts = frozenset(pattern[0] for pattern in self._sorted)
        longest_first = sorted(self._sorted, key=len, reverse=True)
        self._search = re.compile(b"|".join(map(re.escape, longest_first))) if patterns else None

    def stream(self) -> StreamRedactor:
        """Returns a redactor for one stream."""
        return StreamRedactor(self)

    def data(self, data: bytes) -> bytes:
        """Returns bytes with every secret masked."""
        return self._search.sub(MASK, data) if self._search is not None else data

    def text(self, text: str) -> str:
        """Returns text with every secret masked."""
        if self._search is None:
            return text
        return self.data(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def value(self, value: Any) -> Any:
        """Returns a JSON value with every secret masked in its texts and keys."""
        match value:
            case str():
                return self.text(value)
            case list() | tuple():
                return [self.value(item) for item in value]
            case dict():
                return {self.text(str(key)): self.value(item) for key, item in value.items()}
        return value

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """Returns the masked part that no later byte can change, and the rest to keep for later."""
        if self._search is None:
            return data, b""
        done: list[bytes] = []
        at = 0
        while True:
            held = self._held_from(data, at)
            match = self._search.search(data, at)
            if match is None or match.start() >= held:
                done.append(data[at:held])
                return b"".join(done), data[held:]
            done += (data[at : match.start()], MASK)
            at = match.end()

    def _held_from(self, data: bytes, start: int) -> int:
        """Returns where the longest end of the data begins that a pattern could still complete."""
        for position in range(max(start, len(data) - self._longest + 1), len(data)):
            if data[position] in self._firsts and self._is_prefix(data[position:]):
                return position
        return len(data)

    def _is_prefix(self, piece: bytes) -> bool:
        # A longer pattern with this prefix sorts right after the piece itself.
        index = bisect.bisect_right(self._sorted, piece)
        return index < len(self._sorted) and self._sorted[index].startswith(piece)


class StreamRedactor:
    """Masks one stream piece by piece, as if it had come in one."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Returns what can be let go of."""
        done, self._held = self._redactor.split(self._held + data)
        return done

    @property
    def held(self) -> int:
        """How many bytes are held back."""
        return len(self._held)

    def finish(self, *, whole: bool = True) -> bytes:
        """Returns the rest; with the beginning of a secret masked if not the whole was printed."""
        held, self._held = self._held, b""
        if not whole and len(held) >= SHORTEST_SECRET:
            return MASK
        return self._redactor.data(held)


def _key_lines(secret: str) -> Iterator[bytes]:
    """Yields the long lines of a key, which tools print one by one; they read alike everywhere."""
    lines = secret.splitlines()
    if len(lines) > 1:
        yield from (
            line.encode("utf-8", "surrogateescape")
            for line in lines
            if len(line) >= _SHORTEST_LINE and "-----" not in line
        )


def _encodings(secret: str) -> Iterator[bytes]:
    raw = secret.encode("utf-8", "surrogateescape")
    yield raw
    yield raw.replace(b"\n", b"\r\n")
    for text in _texts(secret):
        yield text.encode("utf-8", "surrogateescape")
    for codec in ("utf-16-le", "utf-16-be"):
        yield secret.encode(codec, "surrogatepass")
    escapes = "".join(f"\\x{byte:02x}" for byte in raw)
    for digits in (raw.hex(), raw.hex(":"), raw.hex(" "), escapes):
        yield digits.encode()
        yield digits.upper().replace("\\X", "\\x").encode()
    for encoded in _base64(raw):
        yield encoded
        yield encoded.translate(bytes.maketrans(b"+/", b"-_"))


def _texts(secret: str) -> Iterator[str]:
    for escaped in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield escaped
        yield re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), escaped)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield html.escape(secret)
    yield html.escape(secret, quote=False)
    yield secret.replace("'", "'\"'\"'")
    yield secret.replace("'", "'\\''")
    yield re.sub(r'([\\"$`])', r"\\\1", secret)


def _base64(raw: bytes) -> Iterator[bytes]:
    """Yields what is certain of the secret's base64 at each of the three alignments."""
    for skipped in range(3):
        encoded = base64.b64encode(b"\0" * skipped + raw).rstrip(b"=")
        # The first characters mix in what stands before, the last one what comes after.
        first = (0, 2, 3)[skipped]
        exact = (skipped + len(raw)) % 3 == 0
        yield encoded[first:] if exact else encoded[first:-1]
