"""Characters that do harm in commands, terminals and identifiers, named for people."""

from __future__ import annotations

import re
import unicodedata

_CONTROLS = re.compile(r"[\x01-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_LINE_BREAKS = re.compile(r"[\t\n]")
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def harmful_character(text: str, *, multiline: bool) -> tuple[str, str] | None:
    """Returns (code, what was found) of the first character a value may not hold, else None.

    NUL and lone surrogates are refused everywhere. One-line values may hold no control, line break,
    bidirectional or zero-width character; multi-line text may hold any other, because it is data.
    """
    if "\0" in text:
        return "NUL_BYTE", f"a NUL character at position {text.index(chr(0))}"
    if found := _LONE_SURROGATE.search(text):
        return "ENCODING", f"{_name(found[0])} at position {found.start()}"
    if multiline:
        return None
    for pattern in (_CONTROLS, _LINE_BREAKS, _INVISIBLE):
        if found := pattern.search(text):
            return "CONTROL_CHARACTER", f"{_name(found[0])} at position {found.start()}"
    return None


def confusable(text: str) -> tuple[str, str] | None:
    """Returns (code, what was found) when an identifier holds letters outside ASCII, else None."""
    if text.isascii():
        return None
    if unicodedata.normalize("NFC", text) != text:
        return "NOT_NFC", f"{escaped(text)!r}, not in normal form C"
    for position, character in enumerate(text):
        if ord(character) > 127:
            return "CONFUSABLE", f"{_name(character)} at position {position}"
    return None


def escaped(text: str, limit: int = 80) -> str:
    """Returns text safe to show on one line: control characters escaped, length limited."""
    shown = "".join(
        character if _printable(character) else character.encode("unicode_escape").decode()
        for character in text[: limit + 1]
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _printable(character: str) -> bool:
    return character.isprintable() and not _INVISIBLE.match(character)


def _name(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, 'control character')}"
