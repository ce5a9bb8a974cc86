"""Where the shipped tool definitions are."""

from __future__ import annotations

from pathlib import Path


def tools_root() -> Path:
    """Returns the folder of the shipped tools, in a wheel (package data) or in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "tools"
    if installed.is_dir():
        return installed
    return package.parent.parent / "tools"
