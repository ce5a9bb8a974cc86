"""A database that loses commits while orchestrators run on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from helpers.plans import look, write
from helpers.streets import connected
from opsconductor.orchestrator.engine.messages import Report
from opsconductor.rpc.errors import StoreRegressed

if TYPE_CHECKING:
    from helpers.streets import Street
    from opsconductor.orchestrator.domain.executions.execution import Execution


async def lose(street: Street, run: Execution, seq: int, *, projected: bool) -> None:
    """Takes the database back to an event, as a failover to one that lagged behind does."""
    connection = await asyncpg.connect(street.url)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(
                "DELETE FROM events WHERE execution_id = $1 AND seq > $2", run.execution_id, seq
            )
            if projected:
                await connection.execute(
                    "UPDATE executions SET last_seq = $2 WHERE execution_id = $1",
                    *(run.execution_id, seq),
                )
    finally:
        await connection.close()


async def test_who_writes_on_after_the_database_lost_commits_enters_safe_mode(
    street: Street,
) -> None:
    (one,) = await connected(street, 1)
    run = await one.submit(look("a"), write("b"))
    attempt = await one.live(run, "a")
    await street.freeze(one)
    await lose(street, run, 2, projected=False)
    with pytest.raises(StoreRegressed):
        await one.agents.report(one.member(), Report(attempt.attempt_id, "completed"))
    await street.until(lambda: one.agents.restoring.mode, "it is in safe mode")
    assert one.lines["a1"].steps == ["a"]
    assert one.lines["a1"].acknowledged == []
    await one.submit(look("c"))
    assert one.lines["a1"].steps == ["a"]


async def test_who_finds_less_than_it_wrote_enters_safe_mode(street: Street) -> None:
    (one,) = await connected(street, 1)
    run = await one.submit(look("a"), write("b"))
    await lose(street, run, 2, projected=True)
    await street.until(lambda: one.agents.restoring.mode, "it is in safe mode")
    assert "written and is gone" in one.agents.restoring.mode.reason  # type: ignore[union-attr]
    state = await one.state(run)
    assert state.last_seq == 2
