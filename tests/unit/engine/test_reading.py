"""What is on record: events as they come, output as it is stored, exactly once and in order."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from helpers.plans import look
from opsconductor.orchestrator.store.base import AppendOutput
from opsconductor.rpc.errors import NotFound

if TYPE_CHECKING:
    from helpers.engines import House
    from opsconductor.orchestrator.domain.executions.execution import Execution


async def types(house: House, run: Execution, from_seq: int) -> list[tuple[int, str]]:
    return [
        (watched.stored.seq, watched.stored.type)
        async for watched in house.history.watch(run.execution_id, from_seq)
    ]


async def test_a_watch_goes_from_any_event_to_the_end(house: House) -> None:
    run = await house.submit(look("a"))
    watching = asyncio.create_task(types(house, run, 1))
    late = asyncio.create_task(types(house, run, 4))
    await house.end(run, "a")
    everything = await watching
    assert [seq for seq, _ in everything] == list(range(1, len(everything) + 1))
    assert everything[-1][1] == "execution_finished"
    assert await late == everything[3:]


async def test_a_watched_event_carries_the_state_it_led_to(house: House) -> None:
    run = await house.submit(look("a"))
    await house.end(run, "a")
    states = {
        watched.stored.type: str(watched.state.state)
        async for watched in house.history.watch(run.execution_id, 1)
    }
    assert states["submitted"] == "pending"
    assert states["attempt_granted"] == "running"
    assert states["execution_finished"] == "completed"


async def test_settled_returns_when_it_has_ended(house: House) -> None:
    run = await house.submit(look("a"))
    settled = asyncio.create_task(house.history.settled(run.execution_id))
    await house.end(run, "a")
    assert (await settled).state == "completed"


async def test_an_execution_of_another_tenant_is_not_found(house: House) -> None:
    run = await house.submit(look("a"))
    assert (await house.history.find(run.execution_id, "default")).execution_id
    with pytest.raises(NotFound):
        await house.history.find(run.execution_id, "other")


async def output(house: House, run: Execution, **asked: object) -> dict[int, bytes]:
    found = {1: b"", 2: b""}
    async for piece in house.history.outputs.read(await house.state(run), **asked):  # type: ignore[arg-type]
        found[piece.stream] += piece.data
    return found


async def complete(house: House, run: Execution) -> bool:
    (attempt,) = (await house.state(run)).attempts.values()
    return await house.history.outputs.complete(attempt)


async def test_output_is_followed_until_all_that_was_declared_is_stored(house: House) -> None:
    run = await house.submit(look("a"))
    attempt = await house.live(run, "a")

    async def store(offset: int, data: bytes, stream: int = 1) -> None:
        await house.store.commit(AppendOutput(attempt.attempt_id, stream, offset, data))
        house.history.outputs.arrived(run.execution_id)

    following = asyncio.create_task(output(house, run, follow=True))
    await store(0, b"one ")
    whole = hashlib.sha256(b"one two\n").hexdigest()
    await house.end(run, "a", stdout_bytes=8, stdout_sha256=whole)
    assert not await house.history.outputs.complete(
        (await house.state(run)).attempts[attempt.attempt_id]
    )
    await store(4, b"two\n")
    assert await following == {1: b"one two\n", 2: b""}
    assert await house.history.outputs.complete(
        (await house.state(run)).attempts[attempt.attempt_id]
    )


async def test_output_is_read_from_an_offset_per_stream(house: House) -> None:
    run = await house.submit(look("a"), look("b"))
    for step_id, out, err in (("a", b"12345", b"xy"), ("b", b"678", b"z")):
        attempt = await house.live(run, step_id)
        await house.store.commit(
            AppendOutput(attempt.attempt_id, 1, 0, out), AppendOutput(attempt.attempt_id, 2, 0, err)
        )
        await house.end(run, step_id)
    assert await output(house, run, skip={1: 6, 2: 1}) == {1: b"78", 2: b"yz"}
    assert await output(house, run, step_id="b") == {1: b"678", 2: b"z"}


async def test_bytes_that_differ_from_what_was_declared_are_not_complete(house: House) -> None:
    run = await house.submit(look("a"))
    attempt = await house.live(run, "a")
    await house.store.commit(AppendOutput(attempt.attempt_id, 1, 0, b"one"))
    await house.end(run, "a", stdout_bytes=3, stdout_sha256=hashlib.sha256(b"two").hexdigest())
    assert not await complete(house, run)
