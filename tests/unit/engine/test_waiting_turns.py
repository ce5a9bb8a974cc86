"""What is ready waits for an agent, a place or a lock, says so, and gets its turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.plans import look, restart, write
from opsconductor.orchestrator.engine.agents import SESSION_TIMEOUT
from opsconductor.rpc.errors import StoreUnavailable

if TYPE_CHECKING:
    from helpers.engines import House
    from opsconductor.orchestrator.domain.executions.execution import Execution


def why(house: House, run: Execution, step_id: str = "a") -> str:
    return house.engine.waiting_reason(run.execution_id, step_id)


async def test_a_step_waits_for_its_agent_to_come(house: House) -> None:
    house.hang_up()
    run = await house.submit(look("a"))
    assert run.state == "queued"
    assert why(house, run) == "waits for agent a1 to be connected and taking work"
    line = await house.connect("a1")
    await house.live(run, "a")
    assert (line.steps, why(house, run)) == (["a"], "")


async def test_a_step_waits_for_a_free_place(house: House) -> None:
    await house.connect("a1", capacity=1)
    first = await house.submit(look("a"))
    second = await house.submit(look("a"))
    assert why(house, second) == "waits for a free place on a1"
    await house.end(first, "a")
    await house.live(second, "a")


async def test_changes_of_one_target_wait_for_each_other_across_executions(house: House) -> None:
    first = await house.submit(restart("a", target="10.0.0.9"))
    second = await house.submit(restart("a", target="10.0.0.9"))
    assert why(house, second).startswith("waits for lock")
    await house.end(first, "a")
    await house.live(second, "a")


async def test_the_urgent_come_first_and_then_the_older(house: House) -> None:
    await house.connect("a1", capacity=1)
    busy = await house.submit(look("a"))
    runs = [await house.submit(look("a"), priority=p) for p in (3, 3, 1)]
    order = []
    await house.end(busy, "a")
    for index in (2, 0, 1):
        await house.live(runs[index], "a")
        order.append(index)
        assert len(house.member().attempts) == 1
        await house.end(runs[index], "a")
    assert order == [2, 0, 1]


async def test_one_that_waits_for_an_absent_agent_does_not_hold_others_back(house: House) -> None:
    await house.enrol("a2")
    await house.connect("a2")
    house.member("a2").segment = "dmz"
    house.hang_up("a2")
    stuck = await house.submit(look("a", segment="dmz"))
    run = await house.submit(look("a", segment="local"))
    await house.live(run, "a")
    assert why(house, stuck) == "waits for agent a2 to be connected and taking work"
    assert why(house, run) == ""


async def test_each_tenant_is_served_by_its_own_agents_only(house: House) -> None:
    await house.enrol("b1", tenant="other")
    await house.connect("b1", capacity=1)
    await house.connect("a1", capacity=1)
    mine = [await house.submit(look("a")) for _ in range(2)]
    theirs = [await house.submit(look("a"), tenant="other") for _ in range(2)]
    await house.end(mine[0], "a")
    assert (await house.live(mine[1], "a")).agent_id == "a1"
    assert (await house.live(theirs[0], "a")).agent_id == "b1"
    await house.end(theirs[0], "a")
    assert (await house.live(theirs[1], "a")).agent_id == "b1"


async def test_a_submission_that_failed_does_not_wait_for_ever(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise StoreUnavailable("the disk is full")

    house.hang_up()
    with monkeypatch.context() as patch:
        patch.setattr(house.store, "commit", refuse)
        with pytest.raises(StoreUnavailable):
            await house.submit(look("a"))
    await house.connect("a1")
    # Granted with the submission itself: nothing else waits for its turn.
    run = await house.submit(look("b"))
    assert [attempt.step_id for attempt in run.live_attempts()] == ["b"]


async def test_a_drained_agent_gets_nothing_new_until_it_is_taken_back(house: House) -> None:
    await house.agents.drain("a1", undo=False)
    run = await house.submit(look("a"))
    assert run.state == "queued"
    await house.agents.drain("a1", undo=True)
    await house.live(run, "a")


async def test_a_read_of_a_silent_agent_is_tried_elsewhere_and_a_change_stays(
    house: House,
) -> None:
    read = await house.submit(look("a"))
    change = await house.submit(write("a"))
    await house.enrol("a2")
    await house.connect("a2")
    house.clock.passed += SESSION_TIMEOUT.total_seconds()
    house.agents.heard(house.member("a2"))
    await house.agents._check_silence(house.member("a1"))
    await house.until(read, lambda state: len(state.attempts) == 2)
    assert (await house.live(read, "a")).agent_id == "a2"
    assert (await house.live(change, "a")).agent_id == "a1"
    assert house.member("a1").state == "suspect"


async def test_a_clock_that_is_set_makes_nobody_silent(house: House) -> None:
    read = await house.submit(look("a"))
    attempt = await house.live(read, "a")
    house.clock.ahead += 10 * SESSION_TIMEOUT
    await house.agents._check_silence(house.member("a1"))
    assert house.member("a1").state == "online"
    assert (await house.live(read, "a")).attempt_id == attempt.attempt_id
