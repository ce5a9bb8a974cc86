r"""Makes text from elsewhere safe to show: a terminal must print it, never obey it.

Outputs, names and messages may come from a hostile target. Control characters (C0, C1, DEL),
bidirectional overrides, zero-width and other invisible characters are shown as ``\uXXXX``.
"""

from __future__ import annotations

import unicodedata

_INVISIBLE = {0x115F, 0x1160, 0x3164, 0xFFA0, 0x2800, 0x034F, 0x17B4, 0x17B5}
"""Letters and marks that show nothing although Unicode does not call them format characters."""


def escape(text: str) -> str:
    """Returns text with line feeds and tabs kept and every other unprintable character shown."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(
        character if character in "\n\t" or not _hidden(character) else _shown(character)
        for character in text
    )


def escape_line(text: str) -> str:
    """Returns text as one line: line feeds and tabs are shown too."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) if _hidden(character) else character for character in text)


def escape_name(text: str) -> str:
    """Returns a name in ASCII, so that look-alike letters cannot pass for others."""
    return "".join(
        character if " " <= character <= "~" else _shown(character) for character in text
    )


def _hidden(character: str) -> bool:
    # Cc controls, Cf format (bidi, zero-width, tags), Cs surrogates, Co private, Cn unassigned,
    # Zl and Zp line separators; variation selectors are marks but invisible.
    category = unicodedata.category(character)
    return (
        category in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        or ord(character) in _INVISIBLE
        or 0xFE00 <= ord(character) <= 0xFE0F
        or 0xE0100 <= ord(character) <= 0xE01EF
    )


def _shown(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
