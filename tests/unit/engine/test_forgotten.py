"""After a restore without an agent's journal nothing goes on that it may have done already."""

from __future__ import annotations

import pytest

from helpers.backups import Backup, come, confirm, why
from helpers.plans import UNDO_CALL, look, restart
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.rpc.errors import PermissionDenied, StoreRegressed

WEB = "10.0.0.9"


async def _restored(backup: Backup) -> None:
    with pytest.raises(StoreRegressed):
        await backup.house.connect("a1", incarnation="newer")


async def test_an_agent_that_came_with_a_new_journal_is_told_of_and_how_to_go_on(
    backup: Backup,
) -> None:
    house = backup.house
    await _restored(backup)
    before = await confirm(house)
    await come(house, "a2", before)
    await house.connect("a1", incarnation=house.store.incarnation)
    run = await house.submit(look("a"))
    assert "a1 is connected with a new journal: the old one is lost" in why(house, run)
    assert "`opsctl agents confirm-restore --reason TEXT --without a1`" in why(house, run)


async def test_an_awaited_agent_that_is_kept_out_or_away_is_told_of_as_such(
    backup: Backup,
) -> None:
    house = backup.house
    await _restored(backup)
    await confirm(house)
    house.hang_up("a2")
    await house.agents._keeping.quarantine(house.member("a1"), "it smokes")
    waits = house.agents.restoring.why_awaited("default")
    assert "a1 is quarantined: release it" in waits
    assert "a2 is not connected" in waits


async def test_what_an_agent_may_have_gone_on_with_is_paused_until_a_person_has_looked(
    backup: Backup,
) -> None:
    house = backup.house
    for name in ("a1", "a2"):
        house.hang_up(name)
    change = await house.submit(restart("a", target=WEB))
    harmless = await house.submit(look("a"))
    await _restored(backup)
    before = await confirm(house)
    await come(house, "a2", before)
    await confirm(house, "a1")
    state = await house.state(change)
    assert state.state == "paused"
    assert "what agent a1 did of it after the backup is not known" in state.reason
    assert (await house.live(harmless, "a")).agent_id == "a2"
    assert len(house.lines["a2"].steps) == 1
    await house.engine.command(change.execution_id, lambda now, _: commands.resume(now, "olga"))
    assert (await house.live(change, "a")).agent_id == "a2"


async def test_an_undo_that_an_agent_may_have_done_is_cancelled(backup: Backup) -> None:
    house = backup.house
    run = await house.submit(restart("a", target=WEB, undo=UNDO_CALL))
    await house.end(run, "a")
    for name in ("a1", "a2"):
        house.hang_up(name)
    await house.engine.command(
        run.execution_id, lambda now, _: commands.rollback(now, "olga", "no")
    )
    assert (await house.state(run)).state == "rolling_back"
    await _restored(backup)
    await confirm(house, "a1", "a2")
    state = await house.state(run)
    assert state.state == "cancelled"
    assert "after the backup is not known" in state.reason


async def test_a_journal_that_is_younger_than_the_backup_does_not_tell_everything(
    backup: Backup,
) -> None:
    house = backup.house
    for name in ("a1", "a2"):
        house.hang_up(name)
    change = await house.submit(restart("a", target=WEB))
    await _restored(backup)
    await confirm(house)
    with pytest.raises(PermissionDenied, match="JOURNAL_LOST"):
        await house.connect("a1", incarnation="newer", last_session_epoch=9, journal_id="younger")
    assert (await house.state(change)).state == "paused"


async def test_a_journal_that_began_before_the_restore_was_confirmed_does_not_tell_everything(
    backup: Backup,
) -> None:
    house = backup.house
    for name in ("a1", "a2"):
        house.hang_up(name)
    change = await house.submit(restart("a", target=WEB))
    await _restored(backup)
    before = house.store.incarnation
    with pytest.raises(PermissionDenied, match="JOURNAL_LOST"):
        await house.connect("a1", incarnation=before, journal_id="younger")
    await house.agents.release("a1")
    await confirm(house)
    await come(house, "a2", before)
    assert (await house.state(change)).state == "queued"
    await house.connect("a1", incarnation=before, journal_id="younger")
    state = await house.state(change)
    assert state.state == "paused"
    assert "what agent a1 did of it after the backup is not known" in state.reason
    assert house.lines["a1"].steps == house.lines["a2"].steps == []
    await house.engine.command(change.execution_id, lambda now, _: commands.resume(now, "olga"))
    assert (await house.live(change, "a")).attempt_id
    assert house.member("a1").journal_lost_in == ""


async def test_an_agent_that_is_left_out_says_what_an_operator_can_do(backup: Backup) -> None:
    await _restored(backup)
    await confirm(backup.house, "a1")
    with pytest.raises(PermissionDenied, match="`opsctl agents release a1` lets it in again"):
        await backup.house.connect("a1")
