"""Agents that must not work are kept out until an operator says otherwise, over restarts too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from helpers.engines import House
from helpers.plans import look, restart
from opsconductor.orchestrator.engine.messages import Report
from opsconductor.orchestrator.store.base import ChangeAgent
from opsconductor.rpc.errors import DuplicateAgent, NotFound, PermissionDenied

if TYPE_CHECKING:
    from pathlib import Path

    from opsconductor.orchestrator.domain.executions.execution import Execution

DIED = {"code": "AGENT_DIED", "message": "the agent was killed", "error_class": "unknown"}


def why(house: House, run: Execution, step_id: str = "a") -> str:
    return house.engine.waiting_reason(run.execution_id, step_id)


async def test_a_clone_is_seen_when_the_older_process_comes_back_and_neither_is_let_in(
    house: House,
) -> None:
    first = await house.connect("a1", instance_id="original")
    second = await house.connect("a1", instance_id="copy")
    assert first.closed == "the agent opened a newer session"
    with pytest.raises(DuplicateAgent, match="it was copied"):
        await house.connect("a1", instance_id="original")
    assert "copied" in second.closed
    assert house.member().state == "quarantined"
    for process in ("original", "copy", "third"):
        with pytest.raises(PermissionDenied, match="it was copied"):
            await house.connect("a1", instance_id=process)


async def test_restarts_and_reconnects_of_one_agent_are_no_clone(house: House) -> None:
    for process in ("p1", "p1", "p2", "p3", "p3"):
        await house.connect("a1", instance_id=process)
    assert house.member().state == "online"


async def test_a_released_agent_is_let_in_again_whichever_of_the_two_it_is(house: House) -> None:
    await house.connect("a1", instance_id="original")
    await house.connect("a1", instance_id="copy")
    with pytest.raises(DuplicateAgent):
        await house.connect("a1", instance_id="original")
    released = await house.agents.release("a1")
    assert not released.quarantined
    await house.connect("a1", instance_id="original")
    assert house.member().state == "online"


async def test_an_agent_with_another_journal_is_kept_out_over_a_restart_until_released(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/store.sqlite"
    house = await House.open(url)
    await house.enrol("a1")
    await house.connect("a1")
    run = await house.submit(restart("a", target="10.0.0.9"))
    with pytest.raises(PermissionDenied, match="JOURNAL_LOST"):
        await house.connect("a1", journal_id="another")
    assert (await house.state(run)).steps["a"].state == "unknown"
    await house.close()
    house = await House.open(url)
    assert house.member().state == "quarantined"
    assert "JOURNAL_LOST" in house.member().quarantined
    with pytest.raises(PermissionDenied, match="JOURNAL_LOST"):
        await house.connect("a1", journal_id="another")
    await house.agents.release("a1")
    await house.connect("a1", journal_id="another")
    assert house.member().state == "online"
    await house.close()


async def test_connecting_keeps_the_certificate_and_the_day_of_enrolment(house: House) -> None:
    before = await house.store.agent("a1")
    assert before is not None
    await house.agents.renewed(house.member(), house.clock(), "ab" * 32)
    await house.connect("a1")
    after = await house.store.agent("a1")
    assert after is not None
    assert after.create_time == before.create_time
    assert after.certificate_sha256 == "ab" * 32


async def test_a_drained_agent_stays_drained_over_a_restart_and_a_connect(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.sqlite"
    house = await House.open(url)
    await house.enrol("a1")
    await house.connect("a1")
    await house.agents.drain("a1", undo=False)
    await house.close()
    house = await House.open(url)
    await house.connect("a1")
    assert house.member().state == "draining"
    await house.close()


async def _crash(house: House, number: int) -> None:
    run = await house.submit(look("a"))
    attempt = await house.live(run, "a")
    died = Report(attempt.attempt_id, "unknown", error=DIED)
    await house.connect("a1", died, instance_id=f"p{number}")


async def test_a_tool_that_kills_its_agent_twice_is_given_to_it_no_more(house: House) -> None:
    await house.connect("a1", instance_id="p0")
    await _crash(house, 1)
    assert house.member().kept_tools == {}
    await _crash(house, 2)
    assert "died 2 times in a row" in house.member().kept_tools["run_command"]
    run = await house.submit(look("b"))
    assert "opsctl agents release a1 --tool run_command" in why(house, run, "b")
    await house.enrol("a2")
    await house.connect("a2")
    assert (await house.live(run, "b")).agent_id == "a2"


async def test_a_tool_is_given_again_once_it_is_released_and_the_rest_stays(house: House) -> None:
    await house.connect("a1", instance_id="p0")
    await _crash(house, 1)
    await _crash(house, 2)
    run = await house.submit(look("b"))
    with pytest.raises(NotFound, match="not quarantined"):
        await house.agents.release("a1", "check_disk_space")
    await house.agents.release("a1", "run_command")
    await house.live(run, "b")


async def test_a_tool_that_completes_between_two_crashes_is_not_to_blame(house: House) -> None:
    await house.connect("a1", instance_id="p0")
    await _crash(house, 1)
    run = await house.submit(look("b"))
    await house.end(run, "b")
    await _crash(house, 2)
    assert house.member().kept_tools == {}


async def test_a_restart_of_the_machine_is_nobodys_fault(house: House) -> None:
    await house.connect("a1", instance_id="p0")
    for number in (1, 2, 3):
        run = await house.submit(look("a"))
        attempt = await house.live(run, "a")
        died = Report(attempt.attempt_id, "unknown", error=DIED)
        await house.connect("a1", died, instance_id=f"p{number}", boot_id=f"boot {number}")
    assert house.member().kept_tools == {}


async def test_an_order_that_kills_its_agent_before_it_is_noted_is_taken_back(
    house: House,
) -> None:
    await house.connect("a1", instance_id="p0")
    run = await house.submit(restart("a", target="10.0.0.9"))
    attempt = await house.live(run, "a")
    again = await house.connect("a1", instance_id="p1")
    assert again.steps == ["a"]
    last = await house.connect("a1", instance_id="p2")
    assert (last.steps, last.cancelled) == ([], [attempt.attempt_id])


@pytest.mark.parametrize("undo", [True, False])
async def test_a_drain_or_its_end_is_not_lost_to_a_session_that_opens_meanwhile(
    house: House, monkeypatch: pytest.MonkeyPatch, undo: bool
) -> None:
    await house.agents.drain("a1", undo=not undo)
    commit, opened = house.store.commit, asyncio.Event()

    async def told_late(*operations: Any) -> Any:
        if any(isinstance(operation, ChangeAgent) for operation in operations):
            await opened.wait()  # both are written together, and the session hears of it first
        return await commit(*operations)

    monkeypatch.setattr(house.store, "commit", told_late)
    asked = asyncio.create_task(house.agents.drain("a1", undo=undo))
    await asyncio.sleep(0)
    await house.connect("a1")
    opened.set()
    member = await asked
    assert member.draining is not undo
    assert member.session is not None
