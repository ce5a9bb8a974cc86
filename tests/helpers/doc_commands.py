"""The shell commands that the documents show: a block fenced as ``sh`` is a promise that it works.

Blocks that are only to be looked at (output, templates with <placeholders>) are fenced otherwise.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.source_tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")
FENCE = re.compile(r"^```sh\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
HERE_DOCUMENT = re.compile(r"<<-?\s*'?\"?(?P<end>\w+)")
SEPARATORS = {"|", "||", "&&", ";", "&"}


@dataclass(frozen=True)
class Block:
    """One fenced block: where its first line stands, and what it says."""

    document: str
    line: int
    body: str


def blocks(path: Path) -> list[Block]:
    """Returns the shell blocks of a document; none when there is no such document yet."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [
        Block(path.name, text.count("\n", 0, match.start("body")) + 1, match["body"])
        for match in FENCE.finditer(text)
    ]


def all_blocks() -> list[Block]:
    """Returns the shell blocks of all documents."""
    return [block for name in DOCUMENTS for block in blocks(ROOT / name)]


def commands(block: Block) -> list[list[str]]:
    """Returns the simple commands of a block as words, without comments and here-documents."""
    found: list[list[str]] = []
    lines = iter(block.body.replace("\\\n", " ").splitlines())
    for line in lines:
        found += _split(line)
        here = HERE_DOCUMENT.search(line)
        if here:
            while next(lines, here["end"]).strip() != here["end"]:
                pass
    return found


def _split(line: str) -> list[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if word in SEPARATORS:
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in map(_without_assignments, found) if words]


def _without_assignments(words: list[str]) -> list[str]:
    """Drops a leading ``export`` and ``NAME=value`` words, which only set the environment."""
    while words and (words[0] == "export" or re.match(r"^[A-Z_]+=", words[0])):
        words = words[1:]
    return words
