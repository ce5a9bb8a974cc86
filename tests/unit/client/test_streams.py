"""However often a connection is lost, every event and byte arrives once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.client.streams import OutputCursor, StreamBroken, WatchCursor
from opsconductor.v1.execution_service_pb2 import (
    OUTPUT_STREAM_STDERR,
    OUTPUT_STREAM_STDOUT,
    ReadOutputRequest,
    ReadOutputResponse,
    WatchResponse,
)


@given(st.integers(1, 30), st.integers(1, 40), st.lists(st.integers(0, 10), max_size=10))
def test_events_arrive_once_and_in_order_through_any_losses(
    first: int, last: int, losses: list[int]
) -> None:
    cursor, seen = WatchCursor("exec_1", first), []
    for length in [*losses, last + 1]:
        asked = cursor.request().from_seq
        # Some servers begin one event early; that must not show.
        for seq in range(max(asked - 1, 1), min(asked + length, last + 1)):
            if cursor.accept(WatchResponse(seq=seq)):
                seen.append(seq)
    assert seen == list(range(first, last + 1))


def test_a_missing_event_breaks_the_stream_and_is_asked_for_again() -> None:
    cursor = WatchCursor("exec_1")
    assert cursor.accept(WatchResponse(seq=1))
    with pytest.raises(StreamBroken, match="event 3 of exec_1 came instead of 2"):
        cursor.accept(WatchResponse(seq=3))
    assert cursor.request().from_seq == 2


pieces = st.lists(
    st.tuples(st.booleans(), st.binary(min_size=1, max_size=5), st.integers(0, 3)), max_size=20
)


@given(pieces, st.lists(st.integers(0, 5), max_size=8))
def test_bytes_arrive_once_through_any_losses(
    stored: list[tuple[bool, bytes, int]], losses: list[int]
) -> None:
    cursor = OutputCursor("exec_1", follow=True)
    received: dict[bool, bytes] = {False: b"", True: b""}
    for length in [*losses, len(stored)]:
        for piece in answer(stored, cursor.request())[:length]:
            cursor.accept(piece)
            received[piece.stream == OUTPUT_STREAM_STDERR] += piece.data
    for stream in (False, True):
        assert received[stream] == b"".join(data for s, data, _ in stored if s is stream)


def answer(
    stored: list[tuple[bool, bytes, int]], request: ReadOutputRequest
) -> list[ReadOutputResponse]:
    """Answers as the server does: passes over the bytes, gaps counted, that the reader has."""
    skip = {False: request.stdout_offset, True: request.stderr_offset}
    pieces = []
    for stream, data, gap in stored:
        if skip[stream] >= gap + len(data):
            skip[stream] -= gap + len(data)
            continue
        pieces.append(
            ReadOutputResponse(
                stream=OUTPUT_STREAM_STDERR if stream else OUTPUT_STREAM_STDOUT,
                data=data,
                gap_bytes=gap,
            )
        )
    return pieces
