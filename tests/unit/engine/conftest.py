"""A whole engine on a real store, with agents that a test plays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.backups import backup  # noqa: F401 - a fixture
from helpers.engines import House

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """An orchestrator without its wire, and one agent that is connected."""
    house = await House.open(f"sqlite:///{tmp_path}/store.sqlite")
    await house.enrol("a1")
    await house.connect("a1")
    yield house
    await house.close()
