"""A store that stays away does not fill the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opsconductor.orchestrator.engine.work import Trouble

if TYPE_CHECKING:
    import pytest

LOG = logging.getLogger("trouble")


async def test_the_same_trouble_is_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble(LOG)
    for number in range(1000):
        trouble.say(f"execution {number} could not move on")
    assert caplog.messages == ["execution 0 could not move on"]


async def test_what_was_left_out_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble(LOG, every=3600)
    for _ in range(4):
        trouble.say("down")
    trouble._every = 0
    trouble.say("still down")
    assert caplog.messages[-1] == "still down (and 3 times something like it before)"
