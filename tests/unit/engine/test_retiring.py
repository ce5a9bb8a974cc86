"""An agent that will not come back is given up on: what it was given is unknown, nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from helpers.plans import look, restart
from opsconductor.orchestrator.domain.executions.states import SessionState
from opsconductor.orchestrator.engine.messages import Report
from opsconductor.orchestrator.store.base import ChangeAgent, OpenSession
from opsconductor.rpc.errors import InvalidArgument, InvalidTransition, NotFound, PermissionDenied

if TYPE_CHECKING:
    from helpers.engines import House

WEB = "10.0.0.9"


async def test_what_a_lost_agent_was_given_is_unknown_and_waits_for_a_person(house: House) -> None:
    run = await house.submit(restart("a", target=WEB))
    attempt = await house.live(run, "a")
    house.hang_up("a1")
    member, unknown = await house.agents.retire("a1", "olga", "its host burnt")
    assert unknown == [(run.execution_id, "a")]
    assert member.state == "quarantined"
    state = await house.state(run)
    assert (state.state, state.steps["a"].state) == ("attention_required", "unknown")
    error = state.attempts[attempt.attempt_id].error
    assert error is not None
    assert error["code"] == "AGENT_RETIRED"
    assert "a1 was retired by olga: its host burnt" in error["message"]


async def test_a_second_call_finds_nothing_left(house: House) -> None:
    await house.live(await house.submit(restart("a", target=WEB)), "a")
    house.hang_up("a1")
    await house.agents.retire("a1", "olga", "its host burnt")
    _, unknown = await house.agents.retire("a1", "olga", "its host burnt")
    assert unknown == []


async def test_a_read_of_a_lost_agent_is_tried_elsewhere(house: House) -> None:
    run = await house.submit(look("a"))
    await house.live(run, "a")
    await house.enrol("a2")
    await house.connect("a2")
    house.hang_up("a1")
    _, unknown = await house.agents.retire("a1", "olga", "its host burnt")
    assert unknown == []
    assert (await house.live(run, "a")).agent_id == "a2"


async def test_an_agent_that_is_connected_speaks_for_itself(house: House) -> None:
    run = await house.submit(restart("a", target=WEB))
    await house.live(run, "a")
    with pytest.raises(InvalidTransition, match="drain it, wait until it runs nothing"):
        await house.agents.retire("a1", "olga", "out of fashion")
    assert house.member().state == "online"
    assert (await house.live(run, "a")).state == "granted"


async def test_an_agent_that_is_connected_to_another_orchestrator_speaks_for_itself(
    house: House,
) -> None:
    run = await house.submit(restart("a", target=WEB))
    await house.live(run, "a")
    house.hang_up("a1")
    member = house.member()
    member.elsewhere = {"another": SessionState.ONLINE}
    with pytest.raises(InvalidTransition, match="is connected"):
        await house.agents.retire("a1", "olga", "out of fashion")


async def test_one_that_is_only_silent_here_and_heard_elsewhere_speaks_for_itself(
    house: House,
) -> None:
    member = house.member()
    member.suspect, member.elsewhere = True, {"another": SessionState.ONLINE}
    with pytest.raises(InvalidTransition, match="is connected"):
        await house.agents.retire("a1", "olga", "out of fashion")


async def test_one_that_comes_back_at_that_moment_is_kept_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await house.submit(restart("a", target=WEB))
    await house.live(run, "a")
    house.hang_up("a1")
    commit, retiring, under_way = house.store.commit, asyncio.Event(), asyncio.Event()

    async def while_it_opens_a_session(*operations: Any) -> Any:
        if isinstance(operations[0], ChangeAgent):
            under_way.set()  # its quarantine: not in the store yet
        result = await commit(*operations)
        if isinstance(operations[0], OpenSession):
            retiring.set()
            await under_way.wait()
        return result

    monkeypatch.setattr(house.store, "commit", while_it_opens_a_session)

    async def retire() -> None:
        await retiring.wait()
        await house.agents.retire("a1", "olga", "its host burnt")

    retired = asyncio.create_task(retire())
    with contextlib.suppress(PermissionDenied):
        await house.connect("a1")
    await retired
    assert house.member().state == "quarantined"
    assert house.member().session is None or house.lines["a1"].closed
    assert (await house.state(run)).steps["a"].state == "unknown"
    waiting = await house.submit(look("a"))
    assert not any((await house.state(waiting)).live_attempts())


@pytest.mark.parametrize(
    ("name", "reason", "error"), [("a1", "", InvalidArgument), ("a9", "gone", NotFound)]
)
async def test_who_and_why_have_to_be_said(
    house: House, name: str, reason: str, error: type[Exception]
) -> None:
    house.hang_up("a1")
    with pytest.raises(error):
        await house.agents.retire(name, "olga", reason)
    assert house.member().state == "offline"


async def test_it_is_kept_out_and_what_it_says_after_a_release_is_evidence(house: House) -> None:
    run = await house.submit(restart("a", target=WEB))
    attempt = await house.live(run, "a")
    house.hang_up("a1")
    await house.agents.retire("a1", "olga", "its host burnt")
    with pytest.raises(PermissionDenied, match=r"its host burnt; `opsctl agents release a1`"):
        await house.connect("a1")
    await house.agents.release("a1")
    await house.connect("a1", Report(attempt.attempt_id, "completed", effects="done"))
    state = await house.state(run)
    assert state.steps["a"].state == "unknown"
    assert state.attempts[attempt.attempt_id].late == "completed"
