"""The output of one execution has an end, however many attempts it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.plans import look
from opsconductor.orchestrator.engine.output_room import OutputRoom
from opsconductor.orchestrator.store.base import AppendOutput
from opsconductor.rpc.errors import OutputConflict

if TYPE_CHECKING:
    from helpers.engines import House

LIMIT = 2**20


async def test_output_beyond_the_limit_of_an_execution_is_refused_by_attempt(house: House) -> None:
    run = await house.submit(look("a"), look("b"), mode="parallel")
    a, b = [(await house.live(run, name)).attempt_id for name in ("a", "b")]
    room = OutputRoom(house.store, LIMIT)
    for attempt_id, size in ((a, LIMIT - 10), (b, 8)):
        await room.check(run.execution_id, attempt_id, size)
        (stored,) = await house.store.commit(AppendOutput(attempt_id, 1, 0, b"x" * size))
        room.stored(run.execution_id, attempt_id, 1, stored)
    with pytest.raises(OutputConflict, match="1 MiB") as refused:
        await room.check(run.execution_id, b, 3)
    assert refused.value.metadata == {"attempt_id": b}
    await room.check(run.execution_id, b, 2)


async def test_what_is_stored_counts_also_for_a_new_process(house: House) -> None:
    run = await house.submit(look("a"))
    attempt = await house.live(run, "a")
    await house.store.commit(AppendOutput(attempt.attempt_id, 2, 0, b"x" * LIMIT))
    with pytest.raises(OutputConflict):
        await OutputRoom(house.store, LIMIT).check(run.execution_id, attempt.attempt_id, 1)
