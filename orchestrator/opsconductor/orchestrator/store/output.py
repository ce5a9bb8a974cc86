"""Stored output: appended at the end of each stream, read by ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import bindparam, func, insert, select

from opsconductor.orchestrator.store.rows import OutputChunk
from opsconductor.orchestrator.store.schema import output
from opsconductor.rpc.errors import OutputConflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection, Row

    from opsconductor.orchestrator.store.base import AppendOutput

ROW_LIMIT = 256 * 1024
"""Most bytes of one stored row; what arrives together is folded into rows of up to this size."""

Stream: TypeAlias = tuple[str, int]
"""Attempt id and stream number."""

_LAST = (
    select(output.c.offset + func.length(output.c.data))
    .where(output.c.attempt_id == bindparam("attempt_id"), output.c.stream == bindparam("stream"))
    .order_by(output.c.offset.desc())
    .limit(1)
)
_FIRST_AT = (
    select(func.max(output.c.offset))
    .where(
        output.c.attempt_id == bindparam("attempt_id"),
        output.c.stream == bindparam("stream"),
        output.c.offset <= bindparam("begin"),
    )
    .scalar_subquery()
)
_RANGE = (
    select(output.c.offset, output.c.data)
    .where(
        output.c.attempt_id == bindparam("attempt_id"),
        output.c.stream == bindparam("stream"),
        output.c.offset >= _FIRST_AT,
        output.c.offset < bindparam("end"),
    )
    .order_by(output.c.offset)
)
_INSERT = insert(output)


def stored_length(connection: Connection, attempt_id: str, stream: int) -> int:
    """Returns how many bytes of a stream are stored."""
    found = connection.execute(_LAST, {"attempt_id": attempt_id, "stream": stream}).scalar()
    return int(found or 0)


def read_range(
    connection: Connection, attempt_id: str, stream: int, offset: int, limit: int
) -> tuple[OutputChunk, ...]:
    """Returns the stored bytes from ``offset`` on, at most ``limit``, in order and without gaps."""
    begin, end = max(offset, 0), max(offset, 0) + limit
    rows: Iterable[Row[Any]] = connection.execute(
        _RANGE, {"attempt_id": attempt_id, "stream": stream, "begin": begin, "end": end}
    )
    return tuple(_clipped(rows, begin, end))


def _clipped(rows: Iterable[Row[Any]], begin: int, end: int) -> Iterable[OutputChunk]:
    for row in rows:
        at, data = row.offset, row.data
        first, last = max(begin - at, 0), end - at
        piece = data if first == 0 and last >= len(data) else data[first:last]
        if piece:
            yield OutputChunk(at + first, bytes(piece))


@dataclass(slots=True)
class _Tail:
    """What a batch adds to one stream, and where that begins."""

    begin: int
    data: bytearray = field(default_factory=bytearray)

    @property
    def end(self) -> int:
        return self.begin + len(self.data)


class OutputFold:
    """Gathers a batch's output per stream, so that many small writes become few rows."""

    def __init__(self, connection: Connection, lengths: Mapping[Stream, int]) -> None:
        self._connection = connection
        self._lengths = lengths
        self._tails: dict[Stream, _Tail] = {}

    def append(self, op: AppendOutput) -> int:
        """Takes one append and returns the stream's length after it; raises OutputConflict."""
        tail = self._tail((op.attempt_id, op.stream))
        if op.offset > tail.end:
            return tail.end
        known = min(tail.end - op.offset, len(op.data))
        if known and self._bytes(op, tail, known) != op.data[:known]:
            raise OutputConflict(
                f"output of {op.attempt_id}, stream {op.stream}: the bytes sent for offset "
                f"{op.offset} differ from those stored; the stored ones are kept",
                metadata={"attempt_id": op.attempt_id, "offset": str(op.offset)},
            )
        tail.data += op.data[known:]
        return tail.end

    def flush(self) -> None:
        """Writes what was gathered; a writer that raced for the same stream violates the key."""
        rows = [
            {
                "attempt_id": attempt_id,
                "stream": stream,
                "offset": tail.begin + at,
                "data": bytes(tail.data[at : at + ROW_LIMIT]),
            }
            for (attempt_id, stream), tail in self._tails.items()
            for at in range(0, len(tail.data), ROW_LIMIT)
        ]
        if rows:
            self._connection.execute(_INSERT, rows)

    def lengths(self) -> dict[Stream, int]:
        """Returns the lengths of the streams touched, true once the batch is committed."""
        return {key: tail.end for key, tail in self._tails.items()}

    def _tail(self, key: Stream) -> _Tail:
        tail = self._tails.get(key)
        if tail is None:
            length = self._lengths.get(key)
            tail = _Tail(stored_length(self._connection, *key) if length is None else length)
            self._tails[key] = tail
        return tail

    def _bytes(self, op: AppendOutput, tail: _Tail, count: int) -> bytes:
        """Returns ``count`` bytes from the op's offset on, stored ones and gathered ones alike."""
        stored = max(min(tail.begin - op.offset, count), 0)
        result = b""
        if stored:
            chunks = read_range(self._connection, op.attempt_id, op.stream, op.offset, stored)
            result = b"".join(chunk.data for chunk in chunks)
        at = op.offset + stored - tail.begin
        return result + bytes(tail.data[at : at + count - stored])
