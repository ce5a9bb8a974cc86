"""Several orchestrators keep facts about one agent: none undoes what another wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.engines import House
from helpers.plans import look, restart
from opsconductor.orchestrator.engine.messages import Report
from opsconductor.rpc.errors import PermissionDenied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opsconductor.orchestrator.store.rows import AgentRow

DIED = {"code": "AGENT_DIED", "message": "the agent was killed", "error_class": "unknown"}


@pytest.fixture
async def second(house: House) -> AsyncIterator[House]:
    """Another orchestrator over the store of the first; it has not looked since it started."""
    made = await House.over(house.store)
    yield made
    await made.agents.stop()
    await made.engine.stop()


async def _row(house: House) -> AgentRow:
    row = await house.store.agent("a1")
    assert row is not None
    return row


async def _crash(house: House, number: int) -> Report:
    run = await house.submit(look("a"))
    attempt = await house.live(run, "a")
    died = Report(attempt.attempt_id, "unknown", error=DIED)
    await house.connect("a1", died, instance_id=f"p{number}")
    return died


async def test_a_tool_kept_from_an_agent_stays_kept_when_another_opens_a_session(
    house: House, second: House
) -> None:
    await house.connect("a1", instance_id="p0")
    await _crash(house, 1)
    await _crash(house, 2)
    assert "run_command" in house.member().kept_tools
    stale = second.member()
    assert stale.kept_tools == {}  # it has not looked since
    await second.agents.restoring.taken(stale)
    await second.connect("a1", instance_id="p2")
    assert "died 2 times" in second.member().kept_tools["run_command"]


async def test_one_death_counts_once_whoever_hears_of_it(house: House, second: House) -> None:
    await house.connect("a1", instance_id="p0")
    run = await house.submit(look("a"))
    await house.live(run, "a")
    for member, each in ((house.member(), house), (second.member(), second)):
        await each.agents._keeping.crashed(member, "p0", ["run_command"])
    await house.connect("a1", instance_id="p0")
    assert house.member().crashes == {"run_command": {"p0"}}
    assert house.member().kept_tools == {}


async def test_why_an_agent_is_kept_out_is_not_lost_to_a_session_opened_meanwhile(
    house: House, second: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.connect("a1")
    commit = second.store.commit

    async def quarantined_first(*operations: object) -> object:
        monkeypatch.setattr(house.store, "commit", commit)
        await house.agents._keeping.quarantine(house.member(), "it smokes")
        return await commit(*operations)  # type: ignore[arg-type]

    monkeypatch.setattr(house.store, "commit", quarantined_first)
    with pytest.raises(PermissionDenied, match="it smokes"):
        await second.connect("a1")
    assert (await _row(house)).quarantined


async def test_what_was_given_before_is_not_sent_to_a_released_agent_with_another_journal(
    house: House,
) -> None:
    """Kept out for another reason, it lost its journal meanwhile: it may have run that step."""
    await house.connect("a1")
    run = await house.submit(restart("a", target="10.0.0.9"))
    await house.live(run, "a")
    await house.agents._keeping.quarantine(house.member(), "the store was restored without it")
    await house.agents.release("a1")
    with pytest.raises(PermissionDenied, match="JOURNAL_LOST"):
        await house.connect("a1", journal_id="another")
    assert (await house.state(run)).steps["a"].state == "unknown"
    await house.agents.release("a1")
    line = await house.connect("a1", journal_id="another")
    assert line.steps == []
    assert house.member().state == "online"
