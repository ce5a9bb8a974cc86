"""Several orchestrators without their wire, in one process, over one PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.postgres import postgres, postgres_url  # noqa: F401 - fixtures
from helpers.streets import Street

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def street(postgres_url: str) -> AsyncIterator[Street]:  # noqa: F811
    street = Street(postgres_url)
    yield street
    for house in street.houses:
        await house.close()
