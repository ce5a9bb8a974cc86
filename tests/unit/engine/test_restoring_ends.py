"""What a restored store has forgotten is not passed over where an execution ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from helpers.backups import Backup, come, confirm, confirm_but, remember
from helpers.plans import look, restart
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.engine.importing import Importing
from opsconductor.orchestrator.engine.messages import Report
from opsconductor.rpc import ids
from opsconductor.rpc.errors import PermissionDenied, StoreRegressed

if TYPE_CHECKING:
    from helpers.engines import House, Line
    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.engine.messages import Remembered

WEB = "10.0.0.9"


async def _forgotten(backup: Backup) -> tuple[House, Execution]:
    """Returns a run of a step after another, of which the restored store knows no attempt."""
    house = backup.house
    for name in ("a1", "a2"):
        house.hang_up(name)
    steps = (restart("a", target=WEB), restart("b", target=WEB, needs=["a"]))
    run = await house.submit(*steps, mode="graph")
    with pytest.raises(StoreRegressed):
        await house.connect("a1", incarnation="newer")
    await confirm_but(house, "a2")
    return house, run


async def _hand_over(house: House, *journal: Remembered) -> Line:
    reports = [item.report for item in journal if item.report.state == "running"]
    return await house.connect(
        "a1", *reports, last_session_epoch=9, incarnation="newer", journal=journal
    )


async def _cancel(house: House, run: Execution) -> None:
    await house.engine.command(
        run.execution_id, lambda state, _: commands.cancel(state, "olga", "stop")
    )


async def _end(house: House, attempt_id: str, state: str) -> None:
    end = Report(attempt_id, state, "possible", session_epoch=1)
    await house.agents.report(house.member(), end)


async def test_a_cancel_takes_back_what_still_runs_of_a_step_whose_turn_has_not_come(
    backup: Backup,
) -> None:
    house, run = await _forgotten(backup)
    first = remember(run, "a", "running", effects="possible")
    later = remember(run, "b", "running", effects="possible")
    line = await _hand_over(house, first, later)
    await house.live(run, "a")
    await _cancel(house, run)
    assert first.report.attempt_id in line.cancelled
    await _end(house, first.report.attempt_id, "cancelled")
    state = await house.state(run)
    assert state.state == "cancelling"
    assert state.steps["b"].state == "running"
    assert later.report.attempt_id in line.cancelled
    await _end(house, later.report.attempt_id, "cancelled")
    state = await house.state(run)
    assert state.state == "cancelled"
    assert state.steps["b"].state == "cancelled"


async def test_what_runs_where_the_run_was_cancelled_before_the_journal_came_is_taken_back(
    backup: Backup,
) -> None:
    house, run = await _forgotten(backup)
    await _cancel(house, run)
    assert (await house.state(run)).state == "cancelled"
    running = remember(run, "a", "running", effects="possible")
    line = await _hand_over(house, running)
    assert line.cancelled == [running.report.attempt_id]
    assert (await house.state(run)).steps["a"].effects == "possible"


async def test_what_an_agent_has_done_is_not_called_not_started_where_another_step_failed(
    backup: Backup,
) -> None:
    house, run = await _forgotten(backup)
    first = remember(run, "a", "running", effects="possible")
    done = remember(run, "b", "completed")
    await _hand_over(house, first, done)
    await house.live(run, "a")
    await _end(house, first.report.attempt_id, "failed")
    state = await house.state(run)
    assert state.state == "failed"
    assert state.steps["b"].state == "completed"


async def test_a_cancel_says_of_an_undo_it_had_forgotten_that_it_is_not_verified(
    backup: Backup,
) -> None:
    house, run = await _forgotten(backup)
    undo = remember(run, "a", "running", effects="possible", kind="undo")
    assert undo.report.attempt_id == ids.attempt_id(run.execution_id, "a", "undo", 1)
    await _hand_over(house, remember(run, "a", "completed"), undo)
    await _cancel(house, run)
    state = await house.state(run)
    assert state.state == "cancel_unverified"
    assert "the undo of a" in state.reason


@pytest.mark.parametrize("gone", ["retired", "without its journal"])
async def test_what_runs_of_a_step_whose_turn_has_not_come_is_unknown_without_its_agent(
    backup: Backup, gone: str
) -> None:
    house = backup.house
    for name in ("a1", "a2"):
        house.hang_up(name)
    run = await house.submit(look("a"), restart("b", target=WEB, needs=["a"]), mode="graph")
    with pytest.raises(StoreRegressed):
        await house.connect("a1", incarnation="newer")
    before = await confirm(house)
    await come(house, "a1", "newer", remember(run, "b", "running", effects="possible"))
    house.hang_up("a1")
    if gone == "retired":
        await house.agents.retire("a1", "olga", "its host burnt")
    else:
        with pytest.raises(PermissionDenied, match="JOURNAL_LOST"):
            await house.connect("a1", journal_id="another", incarnation=house.store.incarnation)
    await come(house, "a2", before, remember(run, "a", "completed"))
    state = await house.state(run)
    assert state.state == "attention_required"
    assert state.steps["b"].state == "unknown"


async def test_a_second_journal_tells_the_end_of_what_the_first_had_as_running(
    backup: Backup,
) -> None:
    house, run = await _forgotten(backup)
    before = remember(run, "a", "running", effects="possible")
    await _hand_over(house, before, remember(run, "b", "running", effects="possible"))
    # A second restore, to here: meanwhile both have ended, which the store has forgotten again.
    ended = [remember(run, step, "completed", effects="done") for step in "ab"]
    assert await Importing(house.store, house.engine).take(house.member(), ended) == []
    state = await house.until(run, lambda state: not state.open)
    assert state.state == "completed"
    assert [step.attempt_ids for step in state.steps.values()] == [
        (item.report.attempt_id,) for item in ended
    ]


async def test_what_was_seen_before_a_restore_was_confirmed_does_not_stop_grants_after_it(
    backup: Backup,
) -> None:
    backup.copy()
    await backup.house.connect("a1")
    house = await backup.restore()
    known: dict[str, Any] = {"last_session_epoch": 2, "incarnation": house.store.incarnation}
    with pytest.raises(StoreRegressed):
        await house.connect("a1", **known)
    restoring = house.agents.restoring
    again = asyncio.create_task(house.connect("a1", **known))
    while not restoring._changing.locked():  # noqa: ASYNC110 - the lock is all there is to see
        await asyncio.sleep(0)
    # The operator's word is waited for by both: what the agent knows was held against the store
    # that the operator has replaced since.
    before = await confirm(house)
    with pytest.raises(StoreRegressed):
        await again
    assert restoring.mode is not None
    assert restoring.mode.confirmed
    for name in ("a1", "a2"):
        await come(house, name, before)
    assert restoring.mode is None


async def test_what_is_said_in_a_session_from_before_a_confirmed_restore_does_not_stop_grants(
    backup: Backup,
) -> None:
    house = backup.house
    with pytest.raises(StoreRegressed):
        await house.connect("a2", incarnation="newer")
    before = await confirm(house)
    late = Report("att_unheard_of", "completed", session_epoch=1)
    await house.agents.report(house.member("a1"), late)
    assert house.lines["a1"].acknowledged == []
    await come(house, "a1", before)
    await come(house, "a2", "newer")
    assert house.agents.restoring.mode is None
