"""Where a stream stands, so that it can be asked for again without losing or repeating anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opsconductor.rpc.transport import Unreachable
from opsconductor.v1.execution_service_pb2 import (
    OUTPUT_STREAM_STDERR,
    OUTPUT_STREAM_STDOUT,
    ReadOutputRequest,
    WatchRequest,
)

if TYPE_CHECKING:
    from opsconductor.v1.execution_service_pb2 import ReadOutputResponse, WatchResponse


class StreamBroken(Unreachable):
    """The stream left something out and is asked for again."""


@dataclass(slots=True)
class WatchCursor:
    """The next event a watcher wants."""

    execution_id: str
    next_seq: int = 1

    def request(self) -> WatchRequest:
        """Returns the request that goes on here."""
        return WatchRequest(execution_id=self.execution_id, from_seq=self.next_seq)

    def accept(self, event: WatchResponse) -> bool:
        """Tells whether the event is new; raises StreamBroken when one before it is missing."""
        if event.seq > self.next_seq:
            raise StreamBroken(
                f"event {event.seq} of {self.execution_id} came instead of {self.next_seq}"
            )
        if event.seq < self.next_seq:
            return False
        self.next_seq += 1
        return True


@dataclass(slots=True)
class OutputCursor:
    """How much of the output a reader has.

    Steps that run side by side write side by side, so the reader counts each attempt by itself and
    asks for all of them again after a loss; what it has is passed over here.
    """

    execution_id: str
    step_id: str = ""
    attempt_id: str = ""
    stdout_offset: int = 0
    stderr_offset: int = 0
    follow: bool = False
    _seen: dict[tuple[str, int], int] = field(default_factory=dict, init=False)
    """Position after the last byte, per attempt and stream."""
    _ended: set[tuple[str, int]] = field(default_factory=set, init=False)
    """Streams whose last bytes are missing, and the reader was told so."""

    def request(self) -> ReadOutputRequest:
        """Returns the request that goes on here."""
        request = ReadOutputRequest(
            execution_id=self.execution_id,
            step_id=self.step_id,
            attempt_id=self.attempt_id,
            stdout_offset=self.stdout_offset,
            stderr_offset=self.stderr_offset,
            follow=self.follow,
        )
        if self.attempt_id:
            request.stdout_offset = self._position(OUTPUT_STREAM_STDOUT, self.stdout_offset)
            request.stderr_offset = self._position(OUTPUT_STREAM_STDERR, self.stderr_offset)
        return request

    def accept(self, piece: ReadOutputResponse) -> bool:
        """Tells whether a piece is new, and cuts off what the reader has of it.

        Raises:
            StreamBroken: Bytes before the piece are missing.
        """
        key = (piece.attempt_id, piece.stream)
        seen = self._seen.get(key)
        begin, end = piece.offset, piece.offset + len(piece.data)
        if seen is not None and begin > seen:
            raise StreamBroken(f"output of {piece.attempt_id} went on at {begin} instead of {seen}")
        if piece.gap_bytes and not piece.data:
            told = key in self._ended
            self._ended.add(key)
            return not told
        if seen is not None:
            if end <= seen:
                return False
            passed = max(0, seen - begin)
            piece.data, piece.offset = piece.data[passed:], begin + passed
        self._seen[key] = end
        return True

    def _position(self, stream: int, default: int) -> int:
        return self._seen.get((self.attempt_id, stream), default)
