"""A store that lost commits takes nothing that builds on them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from conformance.store.samples import append, execution_row, stored_event
from opsconductor.orchestrator.store.base import AppendEvents, ChainBroken, PutExecution
from opsconductor.rpc.errors import StoreRegressed

if TYPE_CHECKING:
    from opsconductor.orchestrator.store.store import Store


async def test_events_after_one_that_is_gone_are_refused_whole(store: Store) -> None:
    await store.commit(append("exe_1", 1, 2))
    with pytest.raises(ChainBroken) as caught:
        await store.commit(PutExecution(execution_row(1)), append("exe_1", 4, 5))
    assert isinstance(caught.value, StoreRegressed)
    assert (caught.value.execution_id, caught.value.seq) == ("exe_1", 3)
    assert await store.events("exe_1") == (stored_event(1), stored_event(2))
    assert await store.execution("exe_000001") is None


async def test_the_first_events_of_a_lost_execution_are_missed(store: Store) -> None:
    with pytest.raises(ChainBroken):
        await store.commit(append("exe_1", 2))
    assert await store.events("exe_1") == ()


async def test_events_after_another_than_was_known_are_refused(store: Store) -> None:
    await store.commit(append("exe_1", 1))
    await store.commit(append("exe_1", 2, text="written anew after a restore"))
    with pytest.raises(ChainBroken):
        await store.commit(AppendEvents("exe_1", (stored_event(3),), after=stored_event(2).hash))
    await store.commit(
        AppendEvents("exe_1", (stored_event(2 + 1),), after="2written anew after a restore")
    )
    assert len(await store.events("exe_1")) == 3


async def test_one_callers_gap_does_not_fail_the_others(store: Store) -> None:
    await store.commit(*(append(f"exe_{number}", 1) for number in range(1, 30)))
    calls = [store.commit(append(f"exe_{number}", 2)) for number in range(30)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes[0], ChainBroken)
    assert outcomes[1:] == [[None]] * 29


async def test_a_call_may_build_on_one_of_the_same_transaction(store: Store) -> None:
    calls = [store.commit(append("exe_1", seq)) for seq in (1, 2, 3)]
    assert await asyncio.gather(*calls) == [[None]] * 3
    follows = AppendEvents("exe_1", (stored_event(5),), after=stored_event(4).hash)
    assert await store.commit(append("exe_1", 4), follows) == [None, None]
