"""Outputs: what attempts wrote, read as it is stored, and where some of it is missing."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions.states import AttemptState
from opsconductor.orchestrator.engine.listeners import heard_within
from opsconductor.orchestrator.engine.output_room import LIMIT, OutputRoom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from opsconductor.orchestrator.domain.executions.execution import Attempt, Execution
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.listeners import Listeners
    from opsconductor.orchestrator.store.store import Store

NUMBERS = {"stdout": 1, "stderr": 2}
READ_BYTES = 64 * 1024
VERIFIED_KEPT = 10_000
"""Attempts whose output is known to be whole; of others it is looked at anew."""


@dataclass(frozen=True)
class Piece:
    """Some output of an attempt."""

    attempt: Attempt
    stream: int
    offset: int
    data: bytes
    gap: int = 0
    """Bytes that are missing here, of which nothing in the output tells."""


@dataclass(frozen=True)
class Gap:
    """Output that was produced and is not stored."""

    stream: int
    offset: int
    size: int


@dataclass
class _Reading:
    """What a reader has got."""

    skip: dict[int, int]
    sent: dict[tuple[str, int], int] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    """Attempts of which nothing more will come."""


class Outputs:
    """Reads what is stored of attempts' output."""

    def __init__(
        self, store: Store, engine: Engine, listeners: Listeners, limit: int = LIMIT
    ) -> None:
        self._store = store
        self._engine = engine
        self._listeners = listeners
        self._room = OutputRoom(store, limit)
        self._verified: OrderedDict[str, None] = OrderedDict()

    async def read(
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
            follow: Wait for more until the execution has ended and all declared output is stored,
                or can never be.
        """
        reading, quiet = _Reading(dict(skip or {})), True
        with self._listeners.watch(execution.execution_id) as news:
            while True:
                state = await self._engine.execution(execution.execution_id)
                attempts = _selected(state, step_id, attempt_id)
                for attempt in attempts:
                    async for piece in self._next(state, attempt, reading, quiet=quiet):
                        yield piece
                ended = all(attempt.attempt_id in reading.ended for attempt in attempts)
                if not follow or (ended and not state.open):
                    return
                quiet = not await heard_within(news)

    def arrived(self, execution_id: str) -> None:
        """Wakes those who read an execution's output."""
        self._listeners.notify(execution_id)

    async def complete(self, attempt: Attempt) -> bool:
        """Tells whether every byte an attempt declared is stored and its hashes match."""
        if attempt.live:
            return False
        if attempt.attempt_id in self._verified:
            self._verified.move_to_end(attempt.attempt_id)
            return True
        for stream, length, wanted in _declared(attempt):
            if not length:
                continue
            if await self._store.output_length(attempt.attempt_id, stream) != length:
                return False
            if wanted and await self._sha256(attempt.attempt_id, stream) != wanted:
                return False
        self._verified[attempt.attempt_id] = None
        while len(self._verified) > VERIFIED_KEPT:
            self._verified.popitem(last=False)
        return True

    async def gaps(self, state: Execution, attempt: Attempt, *, complete: bool) -> tuple[Gap, ...]:
        """Returns where output is missing for want of room: at its agent, or here.

        Args:
            state: The execution.
            attempt: The attempt.
            complete: Whether everything it declared is stored.
        """
        found = _gaps(attempt)
        if complete or attempt.live or not await self._room.full(state.execution_id):
            return tuple(found)
        for stream, declared, _ in _declared(attempt):
            stored = await self._store.output_length(attempt.attempt_id, stream)
            if stored < declared:
                size = declared - stored + _untold(attempt, stream, stored)
                found = [gap for gap in found if gap.stream != stream or gap.offset < stored]
                found.append(Gap(stream, stored, size))
        return tuple(found)

    async def _next(
        self, state: Execution, attempt: Attempt, reading: _Reading, *, quiet: bool
    ) -> AsyncIterator[Piece]:
        """Yields what has come since; at an attempt's end also what of it will never come."""
        if attempt.attempt_id in reading.ended:
            return
        async for piece in self._stored(attempt, reading):
            yield piece
        if attempt.live or (state.open and attempt.state is AttemptState.UNKNOWN):
            return
        missing = list(_missing(attempt, reading))
        short = any(reading.sent.get(key, 0) < length for key, length in _lengths(attempt))
        if short and not (quiet and await self._ends_short(state, attempt, reading)):
            return
        reading.ended.add(attempt.attempt_id)
        for piece in missing:
            yield piece

    async def _ends_short(self, state: Execution, attempt: Attempt, reading: _Reading) -> bool:
        """Tells whether an attempt's last bytes had no room; whoever reads has all before them."""
        if not await self._room.full(state.execution_id):
            return False
        for (attempt_id, stream), _ in _lengths(attempt):
            stored = await self._store.output_length(attempt_id, stream)
            if stored > reading.sent.get((attempt_id, stream), 0):
                return False
        return True

    async def _stored(self, attempt: Attempt, reading: _Reading) -> AsyncIterator[Piece]:
        skip = reading.skip
        for stream in NUMBERS.values():
            key = (attempt.attempt_id, stream)
            while True:
                offset = reading.sent.get(key, 0)
                chunks = await self._store.output(attempt.attempt_id, stream, offset, READ_BYTES)
                if not chunks:
                    break
                for chunk in chunks:
                    reading.sent[key] = chunk.offset + len(chunk.data)
                    passed = min(skip.get(stream, 0), len(chunk.data))
                    skip[stream] = skip.get(stream, 0) - passed
                    if data := chunk.data[passed:]:
                        yield Piece(attempt, stream, chunk.offset + passed, data)

    async def _sha256(self, attempt_id: str, stream: int) -> str:
        digest = hashlib.sha256()
        offset = 0
        while chunks := await self._store.output(attempt_id, stream, offset, READ_BYTES):
            for chunk in chunks:
                digest.update(chunk.data)
                offset = chunk.offset + len(chunk.data)
        return digest.hexdigest()


def _missing(attempt: Attempt, reading: _Reading) -> Iterator[Piece]:
    """Yields what will never come at the end of an attempt's streams."""
    for (attempt_id, stream), declared in _lengths(attempt):
        stored = reading.sent.get((attempt_id, stream), 0)
        gap = max(declared - stored, 0) + _untold(attempt, stream, stored)
        if gap:
            yield Piece(attempt, stream, stored, b"", gap)


def _untold(attempt: Attempt, stream: int, stored: int) -> int:
    """Returns how much its agent had no room for, of which no stored line tells."""
    return sum(g.size for g in _gaps(attempt) if g.stream == stream and g.offset >= stored)


def _gaps(attempt: Attempt) -> list[Gap]:
    return [Gap(NUMBERS[gap["stream"]], gap["offset"], gap["bytes"]) for gap in attempt.gaps]


def _lengths(attempt: Attempt) -> Iterator[tuple[tuple[str, int], int]]:
    for stream, length, _ in _declared(attempt):
        yield (attempt.attempt_id, stream), length


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
