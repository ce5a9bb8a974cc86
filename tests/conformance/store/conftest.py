"""The store on each database; every test of this folder runs on all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.store.samples import NOON
from helpers.postgres import postgres, postgres_url  # noqa: F401 - fixtures
from opsconductor.orchestrator.store.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.sqlite"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """An open store."""
    store = await Store.open(store_url, clock=lambda: NOON)
    yield store
    await store.close()
