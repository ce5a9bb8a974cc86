"""Commits whose end nobody hears of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.store.base import AppendEvents
from opsconductor.rpc.errors import StoreUnavailable

if TYPE_CHECKING:
    import pytest

    from helpers.engines import House


def lose_next_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the next transaction be written, and its caller hear that it was not."""
    commit = house.store.commit

    async def written_unseen(*operations: Any) -> Any:
        if not any(isinstance(operation, AppendEvents) for operation in operations):
            return await commit(*operations)
        monkeypatch.setattr(house.store, "commit", commit)
        await commit(*operations)
        raise StoreUnavailable("the connection was lost inside COMMIT")

    monkeypatch.setattr(house.store, "commit", written_unseen)
