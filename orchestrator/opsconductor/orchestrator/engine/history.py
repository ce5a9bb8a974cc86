"""History: what is on record about executions, for reading and watching."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.fold import apply
from opsconductor.orchestrator.engine import log
from opsconductor.rpc.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opsconductor.orchestrator.domain import events as ev
    from opsconductor.orchestrator.domain.execution import Attempt, Execution
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.listeners import Listeners
    from opsconductor.orchestrator.store.rows import StoredEvent
    from opsconductor.orchestrator.store.store import Store

STREAMS = {1: "stdout", 2: "stderr"}
READ_BYTES = 64 * 1024
READ_EVENTS = 500
POLL = 1.0  # seconds; notifications are hints, the store is the truth


@dataclass(frozen=True)
class Watched:
    """One event with the state it led to."""

    stored: StoredEvent
    recorded: ev.Recorded
    state: Execution


@dataclass(frozen=True)
class Piece:
    """Some output of an attempt."""

    attempt: Attempt
    stream: int
    offset: int
    data: bytes


class History:
    """Reads executions, their events and their output."""

    def __init__(self, store: Store, engine: Engine, listeners: Listeners) -> None:
        self._store = store
        self._engine = engine
        self._listeners = listeners
        self._verified: dict[str, bool] = {}

    async def find(self, execution_id: str, tenant: str) -> Execution:
        """Returns an execution by our id or the caller's; NotFound also for other tenants'."""
        if not execution_id:
            raise InvalidArgument("execution_id is empty")
        row = await self._store.execution(execution_id, tenant)
        if row is None:
            raise NotFound(f"there is no execution {execution_id}")
        return await self._engine.execution(row.execution_id)

    async def settled(self, execution_id: str) -> Execution:
        """Waits until an execution has ended or waits for a person, and returns it."""
        waiting = ("approval_required", "attention_required", "paused")
        with self._listeners.watch(execution_id) as news:
            while True:
                state = await self._engine.execution(execution_id)
                if not state.open or state.state in waiting:
                    return state
                await _wait(news)

    async def watch(self, execution_id: str, from_seq: int) -> AsyncIterator[Watched]:
        """Yields events from a number on, as they are committed, to the end of the execution."""
        state: Execution | None = None
        with self._listeners.watch(execution_id) as news:
            while True:
                seen = state.last_seq if state else 0
                stored = await self._store.events(
                    execution_id, from_seq=seen + 1, limit=READ_EVENTS
                )
                for item, recorded in zip(stored, log.read(stored), strict=True):
                    state = apply(state, recorded)
                    if item.seq >= from_seq:
                        yield Watched(item, recorded, state)
                if len(stored) == READ_EVENTS:
                    continue
                if state is not None and not state.open and await self._is_last(state):
                    return
                await _wait(news)

    async def output(
        self,
        execution: Execution,
        *,
        step_id: str = "",
        attempt_id: str = "",
        skip: dict[int, int] | None = None,
        follow: bool = False,
    ) -> AsyncIterator[Piece]:
        """Yields stored output in attempt order, from an offset over all that is selected.

        Args:
            execution: Whose output.
            step_id: Only this step's; empty for all.
            attempt_id: Only this attempt's; empty for all.
            skip: Bytes to pass over, per stream.
            follow: Wait for more until the execution has ended and all declared output is stored.
        """
        sent: dict[tuple[str, int], int] = {}
        skip = dict(skip or {})
        with self._listeners.watch(execution.execution_id) as news:
            while True:
                state = await self._engine.execution(execution.execution_id)
                # Asked before reading: what arrives while this reads is read in the next round.
                whole = not state.open and await self._all_arrived(state, step_id, attempt_id)
                for attempt in _selected(state, step_id, attempt_id):
                    async for piece in self._stored(attempt, sent, skip):
                        yield piece
                if whole or not follow:
                    return
                await _wait(news)

    async def output_complete(self, attempt: Attempt) -> bool:
        """Tells whether every byte an attempt declared is stored and its hashes match."""
        if attempt.live:
            return False
        if attempt.attempt_id in self._verified:
            return self._verified[attempt.attempt_id]
        for stream, length, wanted in _declared(attempt):
            if not length:
                continue
            if await self._store.output_length(attempt.attempt_id, stream) != length:
                return False
            if wanted and await self._sha256(attempt.attempt_id, stream) != wanted:
                return False
        self._verified[attempt.attempt_id] = True
        return True

    def output_arrived(self, execution_id: str) -> None:
        """Wakes those who read an execution's output."""
        self._listeners.notify(execution_id)

    async def _stored(
        self, attempt: Attempt, sent: dict[tuple[str, int], int], skip: dict[int, int]
    ) -> AsyncIterator[Piece]:
        for stream in STREAMS:
            key = (attempt.attempt_id, stream)
            while True:
                offset = sent.get(key, 0)
                chunks = await self._store.output(attempt.attempt_id, stream, offset, READ_BYTES)
                if not chunks:
                    break
                for chunk in chunks:
                    sent[key] = chunk.offset + len(chunk.data)
                    passed = min(skip.get(stream, 0), len(chunk.data))
                    skip[stream] = skip.get(stream, 0) - passed
                    if data := chunk.data[passed:]:
                        yield Piece(attempt, stream, chunk.offset + passed, data)

    async def _all_arrived(self, state: Execution, step_id: str, attempt_id: str) -> bool:
        for attempt in _selected(state, step_id, attempt_id):
            for stream, length, _ in _declared(attempt):
                if not length:
                    continue
                if await self._store.output_length(attempt.attempt_id, stream) < length:
                    return False
        return True

    async def _sha256(self, attempt_id: str, stream: int) -> str:
        digest = hashlib.sha256()
        offset = 0
        while chunks := await self._store.output(attempt_id, stream, offset, READ_BYTES):
            for chunk in chunks:
                digest.update(chunk.data)
                offset = chunk.offset + len(chunk.data)
        return digest.hexdigest()

    async def _is_last(self, state: Execution) -> bool:
        # Memory may be behind for a moment when another orchestrator wrote the end.
        return (await self._engine.execution(state.execution_id)).last_seq <= state.last_seq


async def _wait(news: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(POLL):
            await news.wait()
    news.clear()


def _selected(state: Execution, step_id: str, attempt_id: str) -> list[Attempt]:
    return [
        attempt
        for attempt in state.attempts.values()
        if (not step_id or attempt.step_id == step_id)
        and (not attempt_id or attempt.attempt_id == attempt_id)
    ]


def _declared(attempt: Attempt) -> tuple[tuple[int, int, str], ...]:
    return (
        (1, attempt.stdout_bytes, attempt.stdout_sha256),
        (2, attempt.stderr_bytes, attempt.stderr_sha256),
    )
