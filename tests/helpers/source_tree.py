"""The files of the repository, without environments, caches and generated code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = ("clients/python", "clients/cli", "orchestrator", "agents", "tool_registry")
GENERATED = ROOT / "clients" / "python" / "opsconductor" / "v1"
# Made on each machine and named in .gitignore.
NOT_COMMITTED = {".git", ".cache", ".opsconductor", "__pycache__", "build", "dist"}


def _is_made_here(name: str) -> bool:
    hidden = name.startswith((".venv", ".hypothesis", ".coverage"))
    return hidden or name in NOT_COMMITTED or name.endswith(("_cache", ".egg-info"))


def files(folder: Path = ROOT, suffix: str = "") -> Iterator[Path]:
    """Yields every file that belongs to the project, in a stable order."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_made_here(name))
        for name in sorted(names):
            if name.endswith(suffix) and not _is_made_here(name):
                yield Path(parent) / name


def python_files() -> Iterator[Path]:
    """Yields every Python file that somebody wrote."""
    return (path for path in files(suffix=".py") if GENERATED not in path.parents)


def parts() -> Iterator[Path]:
    """Yields the folder of each part, such as orchestrator/opsconductor/orchestrator."""
    for root in SOURCE_ROOTS:
        for folder in sorted((ROOT / root / "opsconductor").iterdir()):
            if folder.is_dir() and not _is_made_here(folder.name):
                yield folder


def relative(path: Path) -> str:
    """Returns a path as it is written in the repository."""
    return path.relative_to(ROOT).as_posix()
