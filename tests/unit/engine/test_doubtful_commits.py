"""What a commit with an unknown end left behind is found and gone on with, though nobody asks."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from helpers.engines import House
from helpers.plans import look
from opsconductor.orchestrator.engine import doubts
from opsconductor.orchestrator.engine.messages import Report
from opsconductor.orchestrator.store.base import AppendEvents
from opsconductor.rpc.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(doubts, "LOOKED_AT_AFTER", 0.01)
    house = await House.open(f"sqlite:///{tmp_path}/store.sqlite")
    await house.enrol("a1")
    yield house
    await house.close()


def lose_next_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the next transaction be written, and its caller hear that it was not."""
    commit = house.store.commit

    async def written_unseen(*operations: Any) -> Any:
        if not any(isinstance(operation, AppendEvents) for operation in operations):
            return await commit(*operations)
        monkeypatch.setattr(house.store, "commit", commit)
        await commit(*operations)
        raise StoreUnavailable("the connection was lost inside COMMIT")

    monkeypatch.setattr(house.store, "commit", written_unseen)


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
