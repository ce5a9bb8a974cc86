"""Values of the store as a whole that several orchestrators change, and counted transactions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from opsconductor.orchestrator.store.base import CountCommit, DropMeta, SetMeta
from opsconductor.orchestrator.store.mark import Mark
from opsconductor.orchestrator.store.sharing import FreeHolds, LockTaken, TakeHold

if TYPE_CHECKING:
    from opsconductor.orchestrator.store.store import Store


class Slots:
    """Keeps nothing."""

    def read(self) -> list[bytes]:
        return []

    def write(self, slot: int, data: bytes) -> None:
        pass

    async def sync(self) -> None:
        pass


async def test_a_transaction_that_the_store_lost_is_noticed_by_the_next(store: Store) -> None:
    (first,) = await store.commit(CountCommit("d1", 0))
    (second,) = await store.commit(CountCommit("d1", first.count))
    assert (first.count, second.count, second.went_back) == (1, 2, False)
    (later,) = await store.commit(CountCommit("d1", 9))
    assert (later.count, later.went_back) == (10, True)


async def test_every_transaction_is_counted_for_the_data_directory(store: Store) -> None:
    mark = Mark(Slots())
    store.count_with(mark)
    await store.commit(SetMeta("a", "1"))
    await store.commit(SetMeta("a", "2"))
    assert mark.count == 2
    values = await store.meta_values()
    assert mark.behind(values, mark.count) == ""
    assert "only knows 2" in mark.behind(values, 3)


async def test_a_value_is_only_dropped_while_it_is_the_one_that_was_meant(store: Store) -> None:
    await store.commit(SetMeta("awaited/a1", "second"))
    await store.commit(DropMeta("awaited/a1", "first"))
    assert await store.meta("awaited/a1") == "second"
    await store.commit(DropMeta("awaited/a1", "second"))
    assert await store.meta("awaited/a1") is None


async def test_a_lock_that_is_held_anyway_is_not_given_to_others(store: Store) -> None:
    await store.commit(TakeHold("target:web1", 1, "att_1"))
    await store.commit(TakeHold("target:web1", sys.maxsize, "att_2"))
    await store.commit(FreeHolds("att_1"))
    with pytest.raises(LockTaken):
        await store.commit(TakeHold("target:web1", 1, "att_3"))
    await store.commit(FreeHolds("att_2"))
    await store.commit(TakeHold("target:web1", 1, "att_3"))
