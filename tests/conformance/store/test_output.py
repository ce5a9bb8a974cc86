"""Output streams: stored bytes are a prefix of what was sent, whatever is repeated or reordered."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from conformance.store.samples import append_output
from opsconductor.orchestrator.store.output import ROW_LIMIT
from opsconductor.rpc.errors import OutputConflict

if TYPE_CHECKING:
    from opsconductor.orchestrator.store.store import Store

TRUTH = bytes(range(256)) * 4
_attempts = (f"att_{number}" for number in itertools.count())


async def _stored(store: Store, attempt_id: str, stream: int = 1) -> bytes:
    chunks = await store.output(attempt_id, stream, 0, 1 << 30)
    assert [chunk.offset for chunk in chunks] == [
        *itertools.accumulate((len(chunk.data) for chunk in chunks[:-1]), initial=0)
    ][: len(chunks)]
    return b"".join(chunk.data for chunk in chunks)


async def test_bytes_are_appended_repeated_and_refused_beyond_the_end(store: Store) -> None:
    assert await store.commit(append_output("att", 0, b"hello ")) == [6]
    assert await store.commit(append_output("att", 6, b"world")) == [11]
    assert await store.commit(append_output("att", 0, b"hello ")) == [11]  # repeated
    assert await store.commit(append_output("att", 3, b"lo world!")) == [12]  # overlaps, goes on
    assert await store.commit(append_output("att", 20, b"later")) == [12]  # beyond the end
    assert await store.commit(append_output("att", 12, b"")) == [12]
    assert await _stored(store, "att") == b"hello world!"
    assert await store.output_length("att", 1) == 12


async def test_streams_do_not_mix(store: Store) -> None:
    await store.commit(append_output("att", 0, b"out"), append_output("att", 0, b"error", stream=2))
    assert await _stored(store, "att", 1) == b"out"
    assert await _stored(store, "att", 2) == b"error"
    assert await store.output_length("att", 3) == 0


async def test_different_bytes_at_a_stored_offset_are_a_conflict_and_the_first_stay(
    store: Store,
) -> None:
    await store.commit(append_output("att", 0, b"hello "))
    await store.commit(append_output("att", 6, b"world"))
    with pytest.raises(OutputConflict, match="offset 4"):
        await store.commit(append_output("att", 4, b"o WORLD"))
    assert await _stored(store, "att") == b"hello world"


async def test_a_conflict_inside_one_batch_leaves_the_other_callers_alone(store: Store) -> None:
    first = store.commit(append_output("att", 0, b"aaa"))
    guilty = store.commit(append_output("att", 0, b"bbb"))
    last = store.commit(append_output("att", 3, b"ccc"))
    outcomes = await asyncio.gather(first, guilty, last, return_exceptions=True)
    assert outcomes[0] == [3]
    assert isinstance(outcomes[1], OutputConflict)
    assert outcomes[2] == [6]
    assert await store.commit(append_output("att", 6, b"d")) == [7]
    assert await _stored(store, "att") == b"aaaccc" + b"d"


async def test_small_chunks_of_one_batch_become_one_row(store: Store) -> None:
    calls = [store.commit(append_output("att", at, TRUTH[at : at + 1])) for at in range(200)]
    outcomes = await asyncio.gather(*calls)
    assert outcomes == [[at + 1] for at in range(200)]
    count = await store._database.read(lambda connection: _rows(connection))
    assert count <= 2
    assert await _stored(store, "att") == TRUTH[:200]


def _rows(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM output")).scalar_one())


async def test_a_batch_of_large_chunks_is_split_into_rows(store: Store) -> None:
    data = bytes(64 * 1024) * 12
    calls = [
        store.commit(append_output("att", at, data[at : at + 65536]))
        for at in range(0, len(data), 65536)
    ]
    await asyncio.gather(*calls)
    chunks = await store.output("att", 1, 0, len(data))
    assert max(len(chunk.data) for chunk in chunks) <= ROW_LIMIT
    assert await _stored(store, "att") == data


async def test_a_range_is_clipped_to_what_was_asked(store: Store) -> None:
    for at in range(0, 100, 10):
        await store.commit(append_output("att", at, TRUTH[at : at + 10]))
    for offset, limit in [(0, 5), (7, 6), (10, 10), (95, 50), (100, 5), (200, 5), (33, 40), (5, 0)]:
        chunks = await store.output("att", 1, offset, limit)
        expected = TRUTH[offset : min(offset + limit, 100)]
        assert b"".join(chunk.data for chunk in chunks) == expected
        assert not chunks or chunks[0].offset == offset


def test_an_offset_before_the_begin_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        append_output("att", -1, b"x")


_PIECES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 40), st.booleans(), st.booleans()), max_size=12
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(pieces=_PIECES)
async def test_any_sequence_of_sends_stores_a_prefix_of_the_truth(
    store: Store, pieces: list[tuple[int, int, bool, bool]]
) -> None:
    """Model: a byte string; ``wrong`` flips the piece's first byte, ``together`` shares a batch."""
    attempt_id = next(_attempts)
    model = b""
    expected: list[int | type[OutputConflict]] = []
    waiting: list[asyncio.Task[list[int]]] = []
    outcomes: list[object] = []
    for offset, size, wrong, together in pieces:
        data = TRUTH[offset : offset + size]
        if wrong and data and offset < len(model):
            data = bytes([data[0] ^ 0xFF]) + data[1:]
        waiting.append(asyncio.create_task(store.commit(append_output(attempt_id, offset, data))))
        if offset > len(model):
            expected.append(len(model))
        elif data[: len(model) - offset] != model[offset : offset + len(data)]:
            expected.append(OutputConflict)
        else:
            model = model[:offset] + data + model[offset + len(data) :]
            expected.append(len(model))
        if not together:
            outcomes += await asyncio.gather(*waiting, return_exceptions=True)
            waiting.clear()
    outcomes += await asyncio.gather(*waiting, return_exceptions=True)
    assert [item[0] if isinstance(item, list) else type(item) for item in outcomes] == expected
    assert await _stored(store, attempt_id) == model == TRUTH[: len(model)]
    assert await store.output_length(attempt_id, 1) == len(model)
