"""Group commit against a database that the test controls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from conformance.store.samples import append, append_output
from opsconductor.orchestrator.store.base import SetMeta
from opsconductor.orchestrator.store.group_commit import GroupCommit
from opsconductor.rpc.errors import StoreUnavailable, TokenInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from opsconductor.orchestrator.store.base import Call, Outcome, T


class HeldDatabase:
    """Notes its batches and finishes each when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[list[Call]] = []
        self.begun = asyncio.Semaphore(0)
        self.go = asyncio.Semaphore(0)
        self.error: Exception | None = None

    async def commit(self, calls: Sequence[Call]) -> list[Outcome]:
        self.batches.append(list(calls))
        self.begun.release()
        await self.go.acquire()
        if self.error:
            raise self.error
        return [[index] for index, _ in enumerate(calls)]

    async def read(self, query: Callable[[Connection], T]) -> T:
        raise AssertionError("nothing is read here")

    async def close(self) -> None: ...


def _call(name: str) -> Call:
    return (SetMeta(name, ""),)


async def _start(
    group: GroupCommit, database: HeldDatabase, *names: str
) -> list[asyncio.Task[list[int]]]:
    """Occupies the writer with a first call, so that the named ones wait together."""
    first = asyncio.create_task(group.commit(_call("first")))
    await database.begun.acquire()
    return [first, *(asyncio.create_task(group.commit(_call(name))) for name in names)]


async def test_what_waits_while_one_batch_is_written_goes_into_the_next() -> None:
    database = HeldDatabase()
    group = GroupCommit(database)
    tasks = await _start(group, database, "a", "b", "c")
    database.go.release()
    assert await tasks[0] == [0]
    await database.begun.acquire()
    assert database.batches == [[_call("first")], [_call("a"), _call("b"), _call("c")]]
    assert not any(task.done() for task in tasks[1:])
    database.go.release()
    assert await asyncio.gather(*tasks[1:]) == [[0], [1], [2]]
    await group.close()


async def test_batches_stay_small_enough() -> None:
    database = HeldDatabase()
    group = GroupCommit(database)
    tasks = await _start(group, database)
    large = bytes(3 << 20)
    tasks += [
        asyncio.create_task(group.commit((append_output("att", 0, large),))) for _ in range(5)
    ]
    for _ in range(10):
        database.go.release()
    await asyncio.gather(*tasks)
    assert [len(batch) for batch in database.batches] == [1, 2, 2, 1]
    await group.close()


async def test_a_failing_database_tells_every_caller_in_an_error_of_its_own() -> None:
    database = HeldDatabase()
    database.error = StoreUnavailable("the disk is full")
    group = GroupCommit(database)
    tasks = await _start(group, database, "a", "b")
    database.go.release()
    database.go.release()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in errors] == ["the disk is full"] * 3
    assert len({id(error) for error in errors}) == 3
    database.error = None
    database.go.release()
    assert await group.commit((append("exe_1", 1),)) == [0]
    await group.close()


async def test_an_unforeseen_failure_reaches_the_callers_and_the_writer_goes_on() -> None:
    database = HeldDatabase()
    database.error = RuntimeError("unforeseen")
    group = GroupCommit(database)
    [task] = await _start(group, database)
    database.go.release()
    with pytest.raises(RuntimeError, match="unforeseen"):
        await task
    database.error = TokenInvalid()
    database.go.release()
    with pytest.raises(TokenInvalid):
        await group.commit(_call("next"))
    await group.close()


async def test_a_caller_that_gives_up_does_not_disturb_the_batch() -> None:
    database = HeldDatabase()
    group = GroupCommit(database)
    tasks = await _start(group, database, "a", "b")
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    database.go.release()
    database.go.release()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert outcomes[2] == [1]
    await group.close()


async def test_closing_writes_what_was_asked_for_and_refuses_more() -> None:
    database = HeldDatabase()
    group = GroupCommit(database)
    tasks = await _start(group, database, "a")
    await asyncio.sleep(0)
    closing = asyncio.create_task(group.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="closed"):
        await group.commit(_call("late"))
    database.go.release()
    database.go.release()
    assert await asyncio.gather(*tasks) == [[0], [0]]
    await closing
