"""An orchestrator that is frozen inside a transaction does not keep the others waiting."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from helpers.plans import look
from helpers.streets import connected
from opsconductor.orchestrator.store import postgres
from opsconductor.orchestrator.store.base import SetMeta

if TYPE_CHECKING:
    import pytest

    from helpers.streets import Street


async def test_what_a_frozen_orchestrator_has_locked_is_free_in_the_end(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_IDLE_TIMEOUT", timedelta(seconds=1))
    one, two = await connected(street)
    run = await one.submit(look("a"))
    frozen, open_ = asyncio.Event(), asyncio.Event()

    async def lock_and_freeze() -> None:
        async with one.store._database._writer.connect() as connection:  # type: ignore[attr-defined]
            await connection.execute(text("SELECT * FROM leases FOR UPDATE"))
            frozen.set()
            await open_.wait()
            await connection.invalidate()

    await street.freeze(one)
    transaction = asyncio.create_task(lock_and_freeze())
    await frozen.wait()
    await street.until(lambda: two.engine.moves(run.execution_id), "the other takes over")
    await two.end(run, "a")
    assert await two.ended(run) == "completed"
    open_.set()
    await transaction
    await one.store.commit(SetMeta("written", "after it woke"))
    assert await two.store.meta("written") == "after it woke"
