"""Output that had no room is told of where it is missing, and nobody waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from helpers.plans import look
from opsconductor.orchestrator.engine.output_room import CHUNK_BYTES
from opsconductor.orchestrator.engine.outputs import Gap, Outputs
from opsconductor.orchestrator.servicers import wire_agents
from opsconductor.orchestrator.store.base import AppendOutput
from opsconductor.v1 import agent_service_pb2 as pb
from opsconductor.v1 import execution_service_pb2 as execution_pb

if TYPE_CHECKING:
    from helpers.engines import House
    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution

LIMIT = 2 * CHUNK_BYTES
NOTE = "\n[… 100 bytes left out …]\n".encode()


async def pieces(outputs: Outputs, run: Execution, **asked: Any) -> list[tuple[bytes, int]]:
    return [(piece.data, piece.gap) async for piece in outputs.read(run, **asked)]


async def keep(house: House, attempt: Attempt, data: bytes, stream: int = 1) -> None:
    await house.store.commit(AppendOutput(attempt.attempt_id, stream, 0, data))


async def ended(house: House, run: Execution, **fields: Any) -> Execution:
    await house.end(run, "a", **fields)
    return await house.state(run)


async def gaps(outputs: Outputs, state: Execution) -> tuple[Gap, ...]:
    (attempt,) = state.attempts.values()
    return await outputs.gaps(state, attempt, complete=await outputs.complete(attempt))


def test_what_an_agent_left_out_is_taken_from_its_report_by_stream_and_place() -> None:
    message = pb.AttemptReport(
        attempt_id="att_1",
        state=execution_pb.ATTEMPT_STATE_COMPLETED,
        stdout_bytes=60,
        stdout_left_out=5,
        stdout_gap_offset=9,
        stderr_bytes=10,
        stderr_left_out=2**40,
        stderr_gap_offset=11,  # it cannot be behind the end
    )
    assert wire_agents.report(message).gaps == (
        {"stream": "stdout", "offset": 9, "bytes": 5},
        {"stream": "stderr", "offset": 10, "bytes": 2**40},
    )
    message.stdout_left_out = message.stderr_left_out = 0
    assert wire_agents.report(message).gaps == ()


async def test_a_gap_that_the_output_tells_of_is_on_record_and_told_once(house: House) -> None:
    run = await house.submit(look("a"))
    attempt = await house.live(run, "a")
    data = b"head" + NOTE + b"tail"
    await keep(house, attempt, data)
    gap = {"stream": "stdout", "offset": 4, "bytes": 100}
    state = await ended(house, run, stdout_bytes=len(data), gaps=(gap,))
    assert await gaps(house.history.outputs, state) == (Gap(1, 4, 100),)
    assert await pieces(house.history.outputs, state) == [(data, 0)]
    await house.engine.stop()
    stored = await house.store.events(run.execution_id, from_seq=1, limit=100)
    assert any(b'"gaps":[{"bytes":100,"offset":4,"stream":"stdout"}]' in e.data for e in stored)


@pytest.mark.parametrize("follow", [False, True])
async def test_a_gap_that_nothing_in_the_output_tells_of_is_told_at_the_end(
    house: House, *, follow: bool
) -> None:
    run = await house.submit(look("a"))
    attempt = await house.live(run, "a")
    await keep(house, attempt, b"head", stream=2)
    gap = {"stream": "stderr", "offset": 4, "bytes": 100}
    state = await ended(house, run, stderr_bytes=4, gaps=(gap,))
    assert await pieces(house.history.outputs, state, follow=follow) == [(b"head", 0), (b"", 100)]


async def test_output_that_an_execution_has_no_room_for_is_told_and_not_waited_for(
    house: House,
) -> None:
    outputs = Outputs(house.store, house.engine, house.listeners, LIMIT)
    run = await house.submit(look("a"))
    attempt = await house.live(run, "a")
    following = asyncio.create_task(pieces(outputs, run, follow=True))
    await keep(house, attempt, b"x" * (LIMIT - 10))
    gap = {"stream": "stdout", "offset": LIMIT, "bytes": 100}
    state = await ended(house, run, stdout_bytes=LIMIT + 1000, gaps=(gap,))
    found = await following
    assert found[-1] == (b"", 1010 + 100)
    assert sum(len(data) for data, _ in found) == LIMIT - 10
    assert await gaps(outputs, state) == (Gap(1, LIMIT - 10, 1110),)


async def test_output_that_is_on_its_way_is_no_gap(house: House) -> None:
    run = await house.submit(look("a"))
    attempt = await house.live(run, "a")
    await keep(house, attempt, b"one")
    state = await ended(house, run, stdout_bytes=6)
    assert await gaps(house.history.outputs, state) == ()
    assert await pieces(house.history.outputs, state) == [(b"one", 0)]
    following = asyncio.create_task(pieces(house.history.outputs, state, follow=True))
    await house.store.commit(AppendOutput(attempt.attempt_id, 1, 3, b"two"))
    assert b"".join(data for data, _ in await following) == b"onetwo"
