"""A statement that changes more rows than it may is rolled back."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from helpers.places import MemorySink
from opsconductor.agent.executors.base import Call
from opsconductor.agent.executors.credential import no_credentials
from opsconductor.agent.executors.database.executor import DatabaseExecutor
from opsconductor.tool_registry.rendering.rendered import SqlStatement

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    file = tmp_path / "shop.db"
    with closing(sqlite3.connect(file)) as database:
        database.executescript("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2);")
    return file


@pytest.mark.parametrize(("most", "left"), [(0, 2), (1, 2), (2, 0), (None, 0)])
async def test_it_is_kept_only_within_the_limit(shop: Path, most: int | None, left: int) -> None:
    statement = SqlStatement(
        "sqlite", "DELETE FROM orders", database=str(shop), read_only=False, most_changed=most
    )
    call = Call("att", statement, None, timedelta(seconds=10))
    executor = DatabaseExecutor(no_credentials)
    outcome = await executor.run(call, MemorySink(), asyncio.Event())
    await executor.close()
    with closing(sqlite3.connect(shop)) as database:
        assert database.execute("SELECT count(*) FROM orders").fetchone() == (left,)
    if left:
        assert outcome.error is not None
        assert outcome.error.code == "TOO_MANY_ROWS"
        assert outcome.effects == "none"
    else:
        assert outcome.state == "completed"
