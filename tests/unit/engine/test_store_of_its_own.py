"""An orchestrator that is the only one of its store pays nothing for there being more elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers.plans import look, restart
from opsconductor.orchestrator.store import sharing

if TYPE_CHECKING:
    import pytest

    from helpers.engines import House

SHARING = tuple(item for item in vars(sharing).values() if isinstance(item, type))


def _commits(house: House, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    made: list[tuple[Any, ...]] = []
    commit = house.store.commit

    async def count(*ops: Any) -> list[Any]:
        made.append(ops)
        return await commit(*ops)

    monkeypatch.setattr(house.store, "commit", count)
    return made


async def test_a_submission_that_starts_at_once_is_one_commit(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _commits(house, monkeypatch)
    run = await house.submit(look("a"))
    assert len(made) == 1
    await house.end(run, "a")
    assert len(made) == 2
    assert (await house.state(run)).state == "completed"
    assert len(made) == 2


async def test_locks_and_leases_are_not_written(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _commits(house, monkeypatch)
    run = await house.submit(restart("a"))
    await house.end(run, "a")
    assert not [op for ops in made for op in ops if isinstance(op, SHARING)]


async def test_what_is_in_memory_is_not_read_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await house.submit(look("a"))
    read: list[object] = []
    ask = house.store._database.read

    async def count(query: Any) -> Any:
        read.append(query)
        return await ask(query)

    monkeypatch.setattr(house.store._database, "read", count)
    await house.end(run, "a")
    assert (await house.state(run)).state == "completed"
    assert read == []
