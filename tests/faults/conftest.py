"""Fixtures of the fault tests: an OpsConductor of real processes each, taken down afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.stack import Stack, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A stack that was up once: its agent has joined, and nothing has run."""
    with running(tmp_path_factory.mktemp("origin")) as stack:
        return stack


@pytest.fixture
def stack(origin: Stack, tmp_path: Path) -> Iterator[Stack]:
    """A stack that is down, with an agent that has joined."""
    made = origin.copy_to(tmp_path)
    try:
        yield made
    finally:
        made.down()
