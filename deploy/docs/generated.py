"""Writes a generated document, or with ``--check`` says whether it is as it would be written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def keep(document: Path, text: str) -> int:
    """Writes or compares a document; returns the exit code."""
    if "--check" not in sys.argv[1:]:
        document.write_text(text, encoding="utf-8")
        return 0
    if document.exists() and document.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{document.name} is out of date: make docs\n")
    return 1
