"""However often a connection is lost, every event and byte arrives once."""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.client.streams import OutputCursor, StreamBroken, WatchCursor
from opsconductor.v1.execution_service_pb2 import (
    OUTPUT_STREAM_STDERR,
    OUTPUT_STREAM_STDOUT,
    OutputStream,
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


Write = tuple[str, bool, bytes]
"""Attempt, whether it is standard error, and the bytes."""
Gaps = dict[tuple[str, bool], int]
"""How many bytes are missing at the end of streams."""
writes = st.lists(
    st.tuples(st.sampled_from("abc"), st.booleans(), st.binary(min_size=1)), max_size=20
)
gaps = st.dictionaries(st.tuples(st.sampled_from("abc"), st.booleans()), st.integers(1, 9))


@given(writes, gaps, st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), max_size=6))
def test_bytes_of_attempts_side_by_side_arrive_once_through_any_losses(
    written: list[Write], missing: Gaps, losses: list[tuple[int, int]]
) -> None:
    cursor = OutputCursor("exec_1", follow=True)
    received: dict[tuple[str, int], bytes] = {}
    for stored, length in [*losses, (0, sys.maxsize), (0, sys.maxsize)]:
        for piece in answer(written, stored, cursor.request(), missing)[:length]:
            if cursor.accept(piece):
                key = (piece.attempt_id, piece.stream)
                received[key] = received.get(key, b"") + b"?" * piece.gap_bytes + piece.data
    truth: dict[tuple[str, int], bytes] = {}
    for attempt, error, data in written:
        key = (attempt, stream_of(error))
        truth[key] = truth.get(key, b"") + data
    for (attempt, error), size in missing.items():
        key = (attempt, stream_of(error))
        truth[key] = truth.get(key, b"") + b"?" * size
    assert received == truth


@given(writes, st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), max_size=6))
def test_one_attempt_is_read_on_from_where_it_was(
    written: list[Write], losses: list[tuple[int, int]]
) -> None:
    written = [write for write in written if write[0] == "a"]
    cursor = OutputCursor("exec_1", attempt_id="a", follow=True)
    received = {False: b"", True: b""}
    for stored, length in [*losses, (0, sys.maxsize)]:
        for piece in answer(written, stored, cursor.request())[:length]:
            assert cursor.accept(piece)
            received[piece.stream == OUTPUT_STREAM_STDERR] += piece.data
    for error in (False, True):
        assert received[error] == b"".join(data for _, e, data in written if e is error)


def test_a_piece_that_is_partly_known_is_cut() -> None:
    cursor = OutputCursor("exec_1")
    cursor.accept(ReadOutputResponse(stream=OUTPUT_STREAM_STDOUT, data=b"abc"))
    piece = ReadOutputResponse(stream=OUTPUT_STREAM_STDOUT, data=b"abcdef")
    assert cursor.accept(piece)
    assert (piece.offset, piece.data) == (3, b"def")


def test_missing_bytes_break_the_stream_and_are_asked_for_again() -> None:
    cursor = OutputCursor("exec_1")
    cursor.accept(ReadOutputResponse(attempt_id="a", stream=OUTPUT_STREAM_STDOUT, data=b"abc"))
    with pytest.raises(StreamBroken, match="went on at 5 instead of 3"):
        cursor.accept(
            ReadOutputResponse(attempt_id="a", stream=OUTPUT_STREAM_STDOUT, offset=5, data=b"f")
        )


def answer(
    written: list[Write], stored: int, request: ReadOutputRequest, missing: Gaps | None = None
) -> list[ReadOutputResponse]:
    """Answers as the server does: what is stored attempt by attempt, the rest as it comes."""
    skip = {False: request.stdout_offset, True: request.stderr_offset}
    position: Counter[tuple[str, bool]] = Counter()
    pieces = []
    for attempt, error, data in (
        *sorted(written[:stored], key=lambda write: write[0]),
        *written[stored:],
    ):
        begin = position[attempt, error]
        position[attempt, error] += len(data)
        if skip[error] >= len(data):
            skip[error] -= len(data)
            continue
        pieces.append(
            ReadOutputResponse(
                attempt_id=attempt,
                stream=stream_of(error),
                offset=begin,
                data=data,
            )
        )
    return pieces + [
        ReadOutputResponse(
            attempt_id=attempt,
            stream=stream_of(error),
            offset=position[attempt, error],
            gap_bytes=size,
        )
        for (attempt, error), size in (missing or {}).items()
    ]


def stream_of(error: bool) -> OutputStream.ValueType:
    return OUTPUT_STREAM_STDERR if error else OUTPUT_STREAM_STDOUT
