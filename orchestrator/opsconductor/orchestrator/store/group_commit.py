"""Group commit: whatever callers ask for while one batch is written goes into the next."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.store.base import AppendEvents, AppendOutput
from opsconductor.rpc.errors import OpsConductorError, StoreUnavailable

if TYPE_CHECKING:
    from opsconductor.orchestrator.store.base import Call, Outcome, Writer
    from opsconductor.orchestrator.store.mark import Mark

_CALLS_LIMIT = 2000
_BYTES_LIMIT = 8 * 1024 * 1024
"""A batch stays small enough that nobody waits long for it."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    call: Call
    size: int
    done: asyncio.Future[list[Any]]


class GroupCommit:
    """Writes the calls of many callers, a batch at a time; answers each when it is durable."""

    def __init__(self, database: Writer) -> None:
        self.mark: Mark | None = None
        """Keeps how many transactions there were."""
        self._database = database
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="store-group-commit")

    async def commit(self, call: Call) -> list[Any]:
        """Returns a call's results once they are durable; a cancelled caller may have written."""
        if self._closing:
            raise StoreUnavailable("the store is closed")
        done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(call, _size(call), done))
        self._wake.set()
        return await done

    async def close(self) -> None:
        """Writes what was asked for before, then ends."""
        self._closing = True
        self._wake.set()
        await self._task

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = self._take()
            try:
                outcomes = await self._commit([item.call for item in batch])
            except Exception as exc:  # noqa: BLE001 - it belongs to the callers, who all get it
                for item in batch:
                    _fail(item.done, exc)
            else:
                for item, outcome in zip(batch, outcomes, strict=True):
                    _answer(item.done, outcome)

    async def _commit(self, calls: list[Call]) -> list[Outcome]:
        if (mark := self.mark) is None:
            return await self._database.commit(calls)
        *outcomes, counted = await self._database.commit([*calls, (mark.next_commit(),)])
        mark.acknowledged(counted)
        return outcomes

    def _take(self) -> list[_Waiting]:
        batch = [self._waiting.popleft()]
        size = batch[0].size
        while self._waiting and len(batch) < _CALLS_LIMIT:
            size += self._waiting[0].size
            if size > _BYTES_LIMIT:
                break
            batch.append(self._waiting.popleft())
        return batch


def _answer(done: asyncio.Future[list[Any]], outcome: Outcome) -> None:
    if done.done():  # the caller was cancelled
        return
    if isinstance(outcome, list):
        done.set_result(outcome)
    else:
        done.set_exception(outcome)


def _fail(done: asyncio.Future[list[Any]], cause: Exception) -> None:
    if done.done():
        return
    if not isinstance(cause, OpsConductorError):
        done.set_exception(cause)
        return
    # One error each: callers that raise the same object tangle each other's tracebacks.
    own = type(cause)(cause.message)
    own.__cause__ = cause.__cause__
    done.set_exception(own)


def _size(call: Call) -> int:
    size = 0
    for op in call:
        if isinstance(op, AppendOutput):
            size += len(op.data)
        elif isinstance(op, AppendEvents):
            size += sum(len(item.data) for item in op.events)
    return size
