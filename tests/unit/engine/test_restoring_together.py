"""Several orchestrators come back from a restore together; what is lost for good ends first."""

from __future__ import annotations

import pytest

from helpers.backups import Backup, come, confirm, remember
from helpers.engines import House
from helpers.plans import look
from opsconductor.rpc.errors import StoreRegressed


async def test_what_two_orchestrators_take_in_is_awaited_by_neither(backup: Backup) -> None:
    first = backup.house
    second = await House.over(first.store)
    await first.agents.restoring.enter("a sign")
    before = await confirm(first)
    await second.agents.restoring.load()
    assert list(first.agents.restoring.awaited("default")) == ["a1", "a2"]
    await come(first, "a1", before)
    assert list(second.agents.restoring.awaited("default")) == ["a1", "a2"]  # it has not looked
    await come(second, "a2", before)
    assert second.fleet.held("default") == ""
    await first.agents.restoring.load()
    assert first.fleet.held("default") == ""
    await second.agents.stop()
    await second.engine.stop()


async def test_what_an_orchestrator_has_not_heard_of_does_not_undo_safe_mode(
    backup: Backup,
) -> None:
    first = backup.house
    second = await House.over(first.store)
    await first.agents.restoring.enter("a sign")
    before = await confirm(first)
    await second.agents.restoring.load()
    await first.agents.restoring.enter("another sign")
    await come(second, "a1", before)
    await second.agents.restoring.lose("default", ["something"])
    await first.agents.restoring.load()
    assert "another sign" in first.fleet.held("default")
    await second.agents.stop()
    await second.engine.stop()


async def test_a_journal_counts_only_when_nothing_of_a_lost_execution_is_at_work(
    backup: Backup,
) -> None:
    backup.copy()
    run = await backup.house.submit(look("a"))
    house = await backup.restore()
    await house.agents.restoring.enter("a sign")
    before = await confirm(house, "a2")
    with pytest.raises(StoreRegressed, match="still at work"):
        await come(house, "a1", before, remember(run, "a", "running"))
    assert "waits for the journal of a1" in house.fleet.held("default")
    await come(house, "a1", before, remember(run, "a", "completed"))
    assert house.fleet.held("default") == ""
