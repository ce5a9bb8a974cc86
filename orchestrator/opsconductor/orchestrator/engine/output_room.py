"""How much output an execution may store: agents bound each attempt, this bounds the sum."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import OutputConflict

if TYPE_CHECKING:
    from opsconductor.orchestrator.store.store import Store

LIMIT = 256 * 1024 * 1024
STREAMS = (1, 2)
CHUNK_BYTES = 64 * 1024
"""Most that agents send at a time."""
KEPT = 1000
"""Executions whose output is counted in memory; of others it is counted anew."""


class OutputRoom:
    """Counts what executions have stored."""

    def __init__(self, store: Store, limit: int = LIMIT) -> None:
        self._store = store
        self._limit = limit
        self._stored: OrderedDict[str, dict[tuple[str, int], int]] = OrderedDict()

    async def check(self, execution_id: str, attempt_id: str, size: int) -> None:
        """Raises OutputConflict, naming the attempt, when so many bytes more are too many.

        The agent then sets aside the rest of that attempt's output; it shows as incomplete.
        """
        lengths = self._stored.get(execution_id)
        if lengths is None:
            lengths = await self._count(execution_id)
        if sum(lengths.values()) + size > self._limit:
            raise OutputConflict(
                f"execution {execution_id} has stored as much output as it may, "
                f"{self._limit // 2**20} MiB; the rest of attempt {attempt_id} is left out",
                metadata={"attempt_id": attempt_id},
            )

    async def full(self, execution_id: str) -> bool:
        """Tells whether there is too little room for what agents send at a time; counts anew."""
        return self._limit - sum((await self._lengths(execution_id)).values()) < CHUNK_BYTES

    def stored(self, execution_id: str, attempt_id: str, stream: int, length: int) -> None:
        """Notes how much of a stream is stored."""
        if lengths := self._stored.get(execution_id):
            lengths[attempt_id, stream] = length

    async def _count(self, execution_id: str) -> dict[tuple[str, int], int]:
        lengths = self._stored[execution_id] = await self._lengths(execution_id)
        while len(self._stored) > KEPT:
            self._stored.popitem(last=False)
        return lengths

    async def _lengths(self, execution_id: str) -> dict[tuple[str, int], int]:
        return {
            (row.attempt_id, stream): await self._store.output_length(row.attempt_id, stream)
            for row in await self._store.attempts_of(execution_id)
            for stream in STREAMS
        }
