"""A store that went back in time grants nothing until agents have told what they remember."""

from __future__ import annotations

import pytest

from helpers.backups import Backup, come, confirm, confirm_but, remember, why
from helpers.plans import look, restart, write
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.engine.messages import Remembered, Report
from opsconductor.rpc import ids
from opsconductor.rpc.errors import (
    InvalidArgument,
    InvalidTransition,
    NotFound,
    PermissionDenied,
    StoreRegressed,
)

WEB = "10.0.0.9"


async def test_an_agent_that_has_seen_a_later_session_stops_all_grants(backup: Backup) -> None:
    backup.copy()
    await backup.house.connect("a1")
    house = await backup.restore()
    await house.connect("a2")
    with pytest.raises(StoreRegressed, match="has seen session 2, this store only knows 1"):
        await house.connect("a1", last_session_epoch=2, incarnation=house.store.incarnation)
    run = await house.submit(look("a"))
    assert run.state == "queued"
    assert "opsctl agents confirm-restore" in why(house, run)
    assert "has seen session 2" in why(house, run)


async def test_an_agent_that_reports_what_was_never_granted_stops_all_grants(
    backup: Backup,
) -> None:
    house = backup.house
    stranger = Report("att_unheard_of", "completed", session_epoch=1)
    with pytest.raises(StoreRegressed, match="never granted here"):
        await house.connect("a1", stranger)
    run = await house.submit(look("a"))
    assert "safe mode" in why(house, run)


async def test_a_report_of_what_was_never_granted_is_not_acknowledged(backup: Backup) -> None:
    house = backup.house
    await house.agents.report(house.member(), Report("att_unheard_of", "completed"))
    assert house.lines["a1"].acknowledged == []
    assert "safe mode" in why(house, await house.submit(look("a")))


async def test_an_agent_of_another_store_stops_all_grants(backup: Backup) -> None:
    with pytest.raises(StoreRegressed, match="belongs to incarnation other"):
        await backup.house.connect("a1", incarnation="other")
    assert "safe mode" in why(backup.house, await backup.house.submit(look("a")))


async def test_a_certificate_of_ours_for_an_agent_unknown_here_stops_all_grants(
    backup: Backup,
) -> None:
    restoring = backup.house.agents.restoring
    await restoring.stranger("agt_after_the_backup")
    assert "agt_after_the_backup" in backup.house.fleet.held("default")
    await confirm(backup.house)
    await restoring.stranger("agt_after_the_backup")
    assert restoring.mode is not None
    assert restoring.mode.confirmed


async def test_safe_mode_outlives_the_process(backup: Backup) -> None:
    with pytest.raises(StoreRegressed):
        await backup.house.connect("a1", incarnation="other")
    house = await backup.again()
    await house.connect("a2")
    run = await house.submit(look("a"))
    assert "safe mode" in why(house, run)


async def test_in_safe_mode_nothing_is_sent_again_but_cancels(backup: Backup) -> None:
    house = backup.house
    change = await house.submit(restart("a", target=WEB))
    attempt = await house.live(change, "a")
    with pytest.raises(StoreRegressed):
        await house.connect("a1", incarnation="other")
    line = await house.connect(attempt.agent_id)
    assert line.steps == []
    await house.engine.command(
        change.execution_id, lambda state, _: commands.cancel(state, "olga", "stop")
    )
    assert line.cancelled == [attempt.attempt_id]


async def test_what_a_journal_has_as_completed_is_not_started_again(backup: Backup) -> None:
    house = backup.house
    for name in ("a1", "a2"):
        house.hang_up(name)
    run = await house.submit(restart("a", target=WEB), look("b", needs=["a"]), mode="graph")
    backup.copy()
    house = await backup.restore()
    with pytest.raises(StoreRegressed):
        await house.connect("a1", last_session_epoch=9, incarnation=house.store.incarnation)
    before = await confirm(house)
    assert house.store.incarnation != before
    await come(house, "a1", before, remember(run, "a", "completed"))
    assert why(house, run) == ""
    line = await come(house, "a2", before)
    state = await house.until(run, lambda state: bool(state.steps["b"].attempt_ids))
    assert state.steps["a"].state == "completed"
    assert next(iter(state.attempts.values())).agent_id == "a1"
    assert "a" not in line.steps + house.lines["a1"].steps


async def test_grants_wait_until_every_agent_has_told_what_it_remembers(backup: Backup) -> None:
    house = backup.house
    with pytest.raises(StoreRegressed):
        await house.connect("a1", incarnation="newer")
    before = await confirm(house)
    await come(house, "a1", "newer")
    run = await house.submit(look("a"))
    assert why(house, run).startswith("waits for the journal of a2 after the store was restored")
    await come(house, "a2", before)
    await house.live(run, "a")


async def test_an_agent_that_never_comes_back_is_left_out_by_name(backup: Backup) -> None:
    house = backup.house
    with pytest.raises(StoreRegressed):
        await house.connect("a1", incarnation="newer")
    await confirm(house)
    await come(house, "a1", "newer")
    with pytest.raises(NotFound, match="no agent a3"):
        await confirm(house, "a3")
    await confirm(house, "a2")
    await house.live(await house.submit(look("a")), "a")
    with pytest.raises(PermissionDenied, match="without its journal"):
        await house.connect("a2")


async def test_an_agent_left_out_hands_over_its_journal_once_it_is_released(
    backup: Backup,
) -> None:
    house = backup.house
    with pytest.raises(StoreRegressed):
        await house.connect("a1", incarnation="newer")
    before = await confirm(house, "a2")
    await come(house, "a1", "newer")
    await house.agents.release("a2")
    house.hang_up("a1")
    run = await house.submit(restart("a", target=WEB))
    line = await come(house, "a2", before, remember(run, "a", "failed"))
    state = await house.until(run, lambda state: not state.open)
    assert (line.steps, state.steps["a"].state) == ([], "failed")


@pytest.mark.parametrize("state", ["failed", "unknown"])
async def test_a_change_ends_as_the_journal_says(backup: Backup, state: str) -> None:
    house = backup.house
    for name in ("a1", "a2"):
        house.hang_up(name)
    run = await house.submit(restart("a", target=WEB))
    with pytest.raises(StoreRegressed):
        await house.connect("a1", incarnation="newer")
    await confirm_but(house, "a2")
    line = await come(house, "a1", "newer", remember(run, "a", state, effects="possible"))
    found = await house.until(run, lambda now: now.steps["a"].state != "queued")
    assert (line.steps, found.steps["a"].state) == ([], state)
    assert found.steps["a"].effects == "possible"


async def test_what_still_runs_is_waited_for_and_not_started_again(backup: Backup) -> None:
    house = backup.house
    for name in ("a1", "a2"):
        house.hang_up(name)
    run = await house.submit(restart("a", target=WEB))
    with pytest.raises(StoreRegressed):
        await house.connect("a1", incarnation="newer")
    await confirm_but(house, "a2")
    running = remember(run, "a", "running", effects="possible")
    line = await house.connect(
        "a1", running.report, last_session_epoch=9, incarnation="newer", journal=(running,)
    )
    attempt = await house.live(run, "a")
    assert (line.steps, attempt.state) == ([], "running")
    assert house.member().attempts == {attempt.attempt_id}
    await house.agents.report(
        house.member(), Report(attempt.attempt_id, "completed", "done", session_epoch=1)
    )
    assert (await house.state(run)).state == "completed"
    assert line.acknowledged == [attempt.attempt_id]


async def test_a_step_whose_turn_has_not_come_counts_when_it_does(backup: Backup) -> None:
    house = backup.house
    for name in ("a1", "a2"):
        house.hang_up(name)
    run = await house.submit(look("a"), restart("b", target=WEB, needs=["a"]), mode="graph")
    with pytest.raises(StoreRegressed):
        await house.connect("a1", incarnation="newer")
    before = await confirm(house)
    # The agent that did the later step comes first, and goes on with it meanwhile.
    line = await come(house, "a1", "newer", remember(run, "b", "running", effects="possible"))
    assert (await house.state(run)).steps["b"].effects == "possible"
    attempt_id = ids.attempt_id(run.execution_id, "b", "forward", 1)
    end = Report(attempt_id, "completed", "done", output={"x": 1}, session_epoch=1)
    await house.agents.report(house.member(), end)
    assert line.acknowledged == [attempt_id]
    await come(house, "a2", before, remember(run, "a", "completed"))
    state = await house.until(run, lambda state: not state.open)
    assert state.state == "completed"
    assert state.steps["b"].output == {"x": 1}
    assert line.steps + house.lines["a2"].steps == []


async def test_after_a_forgotten_retry_the_next_attempt_has_the_next_number(
    backup: Backup,
) -> None:
    house = backup.house
    for name in ("a1", "a2"):
        house.hang_up(name)
    run = await house.submit(
        write("a", retry={"max_attempts": 4, "backoff": "fixed", "base": "1s"})
    )
    with pytest.raises(StoreRegressed):
        await house.connect("a1", incarnation="newer")
    await confirm_but(house, "a2")
    error = {"code": "EXIT", "message": "no", "error_class": "retryable"}
    await come(house, "a1", "newer", remember(run, "a", "failed", number=2, error=error))
    attempt = await house.live(run, "a")
    assert attempt.number == 3


async def test_what_no_execution_is_known_for_is_kept_for_people_and_let_go(
    backup: Backup,
) -> None:
    house = backup.house
    backup.copy()
    lost = await house.submit(restart("a", target=WEB))
    attempt = await house.live(lost, "a")
    house = await backup.restore()
    end = Report(attempt.attempt_id, "completed", "done", session_epoch=1)
    with pytest.raises(StoreRegressed):
        await house.connect(attempt.agent_id, end, incarnation=house.store.incarnation)
    before = await confirm(house)
    line = await house.connect(
        attempt.agent_id,
        end,
        incarnation=before,
        journal=(remember(lost, "a", "completed"),),
    )
    assert line.acknowledged == [attempt.attempt_id]
    (words,) = set(house.agents.restoring.lost("default")) - {
        f"attempt {attempt.attempt_id} on {attempt.agent_id}: completed"
    }
    assert words == f"{lost.execution_id} step a (forward) on {attempt.agent_id}: completed"


async def test_a_journal_cannot_speak_for_another_tenant_or_another_step(backup: Backup) -> None:
    house = backup.house
    for name in ("a1", "a2"):
        house.hang_up(name)
    await house.enrol("b1", tenant="other")
    run = await house.submit(restart("a", target=WEB))
    made_up = Remembered(
        Report("att_made_up", "completed", "done"), run.execution_id, "a", "forward", started=True
    )
    with pytest.raises(StoreRegressed):
        await house.connect("a1", incarnation="newer")
    before = await confirm_but(house, "a2")
    await come(house, "b1", before, remember(run, "a", "completed"))
    await come(house, "a1", "newer", made_up)
    state = await house.state(run)
    assert not state.recovered
    assert (await house.live(run, "a")).agent_id == "a1"


async def test_a_restore_can_be_announced_before_any_agent_shows_it(backup: Backup) -> None:
    restoring = backup.house.agents.restoring
    with pytest.raises(InvalidTransition, match="not in safe mode"):
        await confirm(backup.house)
    with pytest.raises(InvalidArgument, match="reason"):
        await restoring.confirm("olga", "default", "", (), planned=True)
    await restoring.confirm("olga", "default", "new disk", (), planned=True)
    assert backup.house.lines["a1"].closed.startswith("the store was restored")
    run = await backup.house.submit(look("a"))
    assert why(backup.house, run).startswith("waits for the journal of a1, a2")


async def test_an_agent_told_of_the_new_store_is_not_asked_for_its_journal_again(
    backup: Backup,
) -> None:
    house = backup.house
    with pytest.raises(StoreRegressed):
        await house.connect("a1", incarnation="newer")
    await confirm(house, "a2")
    await come(house, "a1", "newer")
    house = await backup.again()
    await house.connect("a1", incarnation=house.store.incarnation, last_session_epoch=10)
    assert house.member().hands_over == ""
    await house.live(await house.submit(look("a")), "a")


async def test_journals_are_awaited_over_a_restart_of_the_orchestrator(backup: Backup) -> None:
    house = backup.house
    with pytest.raises(StoreRegressed):
        await house.connect("a1", incarnation="newer")
    before = await confirm(house)
    await come(house, "a1", "newer")
    house = await backup.again()
    await house.connect("a1", incarnation=house.store.incarnation, last_session_epoch=10)
    run = await house.submit(look("a"))
    assert why(house, run).startswith("waits for the journal of a2 after the store was restored")
    await come(house, "a2", before)
    await house.live(run, "a")
