"""Programs written in Go, which deploy/setup/go_tools builds into a cache."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from helpers.source_tree import ROOT


def built(name: str) -> str:
    """Returns the path of a program; skips the test where it is not built."""
    where = subprocess.run(
        ["sh", ROOT / "deploy/setup/go_tools", "--where"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    found = shutil.which(name, path=os.pathsep.join((where, os.environ["PATH"])))
    if found is None:
        pytest.skip(f"there is no {name}; deploy/setup/go_tools {name} builds it with Go")
    return found
