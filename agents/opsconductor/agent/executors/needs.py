"""What executors need on the agent's host; one that misses something is not offered."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

from opsconductor.agent.executors.environment import PATH


class Unavailable(Exception):
    """An executor cannot work here; the message says what is missing and how to get it."""


def library(module: str, distribution: str) -> None:
    """Raises Unavailable when a Python library is not installed; does not load it."""
    if find_spec(module) is None:
        raise Unavailable(
            f"the Python library {distribution} is missing: pip install {distribution}"
        )


def program(name: str, remedy: str) -> None:
    """Raises Unavailable when a program is not where steps look for it."""
    if shutil.which(name, path=PATH) is None:
        raise Unavailable(f"no program {name} in {PATH}: {remedy}")
