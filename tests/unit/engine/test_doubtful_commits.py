"""What a commit with an unknown end left behind is found and gone on with, though nobody asks."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from helpers.doubts import lose_next_answer
from helpers.engines import House
from helpers.places import until
from helpers.plans import look, restart
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.executions.place import Grant, ready_steps
from opsconductor.orchestrator.engine import doubts
from opsconductor.orchestrator.engine.actor import Change, read
from opsconductor.orchestrator.engine.granting import Granting, Placed
from opsconductor.orchestrator.engine.messages import Report
from opsconductor.orchestrator.engine.waiting import Queue, Waiting
from opsconductor.rpc import ids
from opsconductor.rpc.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WEB = "10.0.0.9"


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(doubts, "LOOKED_AT_AFTER", 0.01)
    house = await House.open(f"sqlite:///{tmp_path}/store.sqlite")
    await house.enrol("a1")
    yield house
    await house.close()


async def test_a_submission_nobody_was_told_of_runs(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = await house.connect("a1")
    lose_next_answer(house, monkeypatch)
    with suppress(StoreUnavailable):
        await house.submit(look("a"), request_id="once")
    run = await house.submit(look("a"), request_id="once")
    await house.live(run, "a")
    await house.until(run, lambda _: line.steps == ["a"])


async def test_a_grant_nobody_was_told_of_is_sent(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = await house.connect("a1")
    run = await house.submit(look("a"), look("b"))
    attempt = await house.live(run, "a")
    lose_next_answer(house, monkeypatch)
    with pytest.raises(StoreUnavailable):
        await house.agents.report(house.member(), Report(attempt.attempt_id, "completed"))
    await house.until(run, lambda _: line.steps == ["a", "b"])


async def test_what_may_be_granted_keeps_its_lock_until_it_is_known(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = await house.connect("a1")
    run = await house.submit(look("first"), restart("then", target=WEB))
    first = await house.live(run, "first")
    monkeypatch.setattr(doubts, "LOOKED_AT_AFTER", 3600.0)
    lose_next_answer(house, monkeypatch)
    done = Report(first.attempt_id, "completed")
    with pytest.raises(StoreUnavailable):
        await house.agents.report(house.member(), done)
    other = await house.submit(restart("other", target=WEB))
    await house.agents.report(house.member(), done)  # as its agent does, for want of an answer
    await house.until(run, lambda _: line.steps == ["first", "then"])
    assert (await house.state(other)).steps["other"].state == "queued"
    await house.end(run, "then")
    await house.live(other, "other")


async def test_what_was_not_granted_after_all_gives_its_lock_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.connect("a1")
    run = await house.submit(look("first"), restart("then", target=WEB))
    first = await house.live(run, "first")
    commit = house.store.commit

    async def refused(*operations: Any) -> Any:
        raise StoreUnavailable("the transaction was rolled back")

    monkeypatch.setattr(house.store, "commit", refused)
    with pytest.raises(StoreUnavailable):
        await house.agents.report(house.member(), Report(first.attempt_id, "completed"))
    monkeypatch.setattr(house.store, "commit", commit)
    other = await house.submit(restart("other", target=WEB))
    await house.live(other, "other")


async def test_an_execution_that_was_not_written_holds_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.connect("a1")
    commit = house.store.commit

    async def refused(*operations: Any) -> Any:
        raise StoreUnavailable("the transaction was rolled back")

    monkeypatch.setattr(house.store, "commit", refused)
    with pytest.raises(StoreUnavailable):
        await house.submit(restart("a", target=WEB))
    monkeypatch.setattr(house.store, "commit", commit)
    other = await house.submit(restart("other", target=WEB))
    await house.live(other, "other")


async def test_others_are_woken_for_what_was_in_doubt_only_when_the_store_writes_again(
    house: House,
) -> None:
    # Else each look at a full disk would free, wake, try, fail, be in doubt and be looked at.
    await house.connect("a1")
    house.hang_up("a1")
    run = await house.submit(look("a"))
    woken: list[str] = []
    granting = Granting(house.fleet, Waiting(), lambda: woken.append("now"))
    attempt = ids.attempt_id(run.execution_id, "a", "forward", 1)
    house.fleet.take("a1", attempt, ())
    (step,) = ready_steps(run, house.clock())
    grant = Grant(step, "a1", 1, "")
    change = Change(await read(house.store, run.execution_id), run)
    granting.take_back(change, Placed([(grant, attempt)], [], Queue("default")), in_doubt=True)
    assert house.fleet.knows(attempt)
    granting.hold(run)
    assert not house.fleet.knows(attempt)
    assert woken == []
    granting.written()
    granting.written()
    assert woken == ["now"]


@pytest.mark.parametrize("what", ["send", "cancel"])
async def test_what_a_defect_kept_from_an_agent_after_the_commit_is_told_again(
    house: House, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    line = await house.connect("a1")
    run = await house.submit(look("a"), look("b"))
    attempt = await house.live(run, "a")
    dispatch = house.engine._dispatch

    def broken(*_: Any) -> None:
        monkeypatch.undo()
        raise RuntimeError("a defect")

    monkeypatch.setattr(dispatch, what, broken)
    if what == "send":
        with pytest.raises(RuntimeError):
            await house.agents.report(house.member(), Report(attempt.attempt_id, "completed"))
        await until(lambda: line.steps == ["a", "b"])
    else:
        with pytest.raises(RuntimeError):
            await house.engine.command(
                run.execution_id, lambda state, _: commands.cancel(state, "rita", "")
            )
        await until(lambda: line.cancelled == [attempt.attempt_id])
