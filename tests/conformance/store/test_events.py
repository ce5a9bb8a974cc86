"""The event log: one key, one winner, nothing half written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from conformance.store.samples import (
    append,
    append_output,
    attempt_row,
    execution_row,
    stored_event,
)
from opsconductor.orchestrator.store.base import (
    AppendEvents,
    PutAttempt,
    PutExecution,
    SequenceConflict,
    SetMeta,
)
from opsconductor.rpc.errors import InvalidArgument

if TYPE_CHECKING:
    from opsconductor.orchestrator.store.store import Store


async def test_events_come_back_as_they_were_appended(store: Store) -> None:
    await store.commit(append("exe_1", 1, 2, 3))
    await store.commit(append("exe_2", 1))
    assert await store.events("exe_1") == (stored_event(1), stored_event(2), stored_event(3))
    assert await store.events("exe_1", from_seq=2, limit=1) == (stored_event(2),)
    assert await store.events("exe_3") == ()


async def test_a_taken_number_is_a_conflict_that_names_it(store: Store) -> None:
    await store.commit(append("exe_1", 1, 2, 3))
    with pytest.raises(SequenceConflict) as caught:
        await store.commit(append("exe_1", 2, 3, 4, text="late"))
    assert (caught.value.execution_id, caught.value.seq) == ("exe_1", 2)
    assert await store.events("exe_1") == (stored_event(1), stored_event(2), stored_event(3))


async def test_a_conflict_undoes_the_whole_call(store: Store) -> None:
    await store.commit(append("exe_1", 1))
    with pytest.raises(SequenceConflict):
        await store.commit(
            PutExecution(execution_row(1)),
            append_output("att_1", 0, b"lines"),
            SetMeta("written", "yes"),
            append("exe_1", 1, text="late"),
            PutAttempt(attempt_row(1)),
        )
    assert await store.execution("exe_000001") is None
    assert await store.output_length("att_1", 1) == 0
    assert await store.meta("written") is None
    assert await store.attempts_of("exe_000001") == ()


async def test_one_callers_conflict_does_not_fail_the_others(store: Store) -> None:
    await store.commit(append("exe_0", 1))
    calls = [store.commit(append(f"exe_{number}", 1, text="new")) for number in range(60)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes[0], SequenceConflict)
    assert outcomes[1:] == [[None]] * 59
    assert await store.events("exe_0") == (stored_event(1),)
    assert await store.events("exe_59") == (stored_event(1, "new"),)


async def test_of_many_writers_of_one_number_exactly_one_wins(store: Store) -> None:
    async def attempt(writer: int, seq: int) -> int | None:
        try:
            await store.commit(append("exe_1", seq, text=f"writer-{writer}"))
        except SequenceConflict:
            return None
        return writer

    for seq in (1, 2, 3):
        winners = await asyncio.gather(*(attempt(writer, seq) for writer in range(30)))
        [winner] = [writer for writer in winners if writer is not None]
        [event] = await store.events("exe_1", from_seq=seq)
        assert event == stored_event(seq, f"writer-{winner}")


async def test_what_a_database_cannot_hold_fails_alone(store: Store) -> None:
    unholdable = store.commit(PutExecution(execution_row(1, name="lone surrogate \ud800")))
    naive = store.commit(
        PutExecution(execution_row(2, create_time=stored_event(1).time.replace(tzinfo=None)))
    )
    fine = store.commit(PutExecution(execution_row(3)))
    outcomes = await asyncio.gather(unholdable, naive, fine, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [InvalidArgument, InvalidArgument, list]
    assert "Restart" not in str(outcomes[0])
    assert await store.execution("exe_000003") == execution_row(
        3, search_text="restart nginx web-01"
    )


@pytest.mark.parametrize("seqs", [(), (0,), (1, 3), (2, 1), (1, 1)])
def test_numbers_with_gaps_are_refused_before_they_are_written(seqs: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="follow each other"):
        AppendEvents("exe_1", tuple(stored_event(seq) for seq in seqs))


async def test_events_cannot_be_changed_in_the_database(store: Store) -> None:
    await store.commit(append("exe_1", 1))

    def forge(connection: Connection) -> str:
        if connection.dialect.name == "sqlite":
            connection.execute(text("PRAGMA query_only = OFF"))
        try:
            connection.execute(text("UPDATE events SET type = 'forged'"))
        except SQLAlchemyError as exc:
            return str(exc)
        return "changed"

    assert "events never change" in await store._database.read(forge)
    assert await store.events("exe_1") == (stored_event(1),)


async def test_a_long_chain_and_large_events_come_back_whole(store: Store) -> None:
    large = stored_event(1, "x" * 700_000)
    await store.commit(AppendEvents("exe_1", (large,)))
    await store.commit(append("exe_1", *range(2, 2502)))
    assert (await store.events("exe_1", limit=1)) == (large,)
    assert [event.seq for event in await store.events("exe_1", 1002, 1500)] == [*range(1002, 2502)]
