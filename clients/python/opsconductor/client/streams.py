"""Where a stream stands, so that it can be asked for again without losing or repeating anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opsconductor.rpc.transport import Unreachable
from opsconductor.v1.execution_service_pb2 import (
    OUTPUT_STREAM_STDERR,
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
    """How much of both output streams a reader has."""

    execution_id: str
    step_id: str = ""
    attempt_id: str = ""
    stdout_offset: int = 0
    stderr_offset: int = 0
    follow: bool = False

    def request(self) -> ReadOutputRequest:
        """Returns the request that goes on here."""
        return ReadOutputRequest(
            execution_id=self.execution_id,
            step_id=self.step_id,
            attempt_id=self.attempt_id,
            stdout_offset=self.stdout_offset,
            stderr_offset=self.stderr_offset,
            follow=self.follow,
        )

    def accept(self, piece: ReadOutputResponse) -> bool:
        """Counts a piece, with what a declared limit left out before it; every piece is new."""
        count = len(piece.data) + piece.gap_bytes
        if piece.stream == OUTPUT_STREAM_STDERR:
            self.stderr_offset += count
        else:
            self.stdout_offset += count
        return True
