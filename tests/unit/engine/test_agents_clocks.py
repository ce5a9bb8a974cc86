"""The clocks of agents: differences are told, and nothing depends on them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from helpers.plans import look

if TYPE_CHECKING:
    import pytest

    from helpers.engines import House


async def test_a_clock_that_is_far_off_is_told_and_changes_nothing(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    for ahead, told in ((240, False), (420, True), (-420, True)):
        caplog.clear()
        now = house.clock() + timedelta(seconds=ahead)
        await house.connect("a1", clock_time=now)
        skew = house.member().clock_skew
        assert skew is not None
        assert round(skew.total_seconds()) == ahead
        assert ("clock of agent a1 differs" in caplog.text) is told
    run = await house.submit(look("a"))
    await house.end(run, "a")
    assert (await house.state(run)).state == "completed"
