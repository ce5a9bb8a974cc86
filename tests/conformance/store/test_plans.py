"""Reads that must stay flat as history grows find their rows by an index and sort nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from conformance.store.samples import NOON, execution_row
from opsconductor.orchestrator.store.base import PutExecution
from opsconductor.orchestrator.store.sqlite import SqliteDatabase
from opsconductor.orchestrator.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

_READS: dict[str, Callable[[Store, str], Awaitable[object]]] = {
    "list": lambda store, token: store.list_executions("acme", page_token=token),
    "states": lambda store, token: store.list_executions(
        "acme", states=("failed", "running"), page_token=token
    ),
    "external id": lambda store, _: store.execution("ticket-7", "acme"),
    "request": lambda store, _: store.execution_by_request("acme", "r1"),
    "open": lambda store, _: store.open_executions(),
    "events": lambda store, _: store.events("exe_1", from_seq=5),
    "attempts": lambda store, _: store.attempt("att_1"),
    "owed": lambda store, _: store.attempts_open_for("agt_1"),
    "pending approvals": lambda store, token: store.list_approvals(
        "acme", states=("pending",), page_token=token
    ),
    "output": lambda store, _: store.output("att_1", 1, 100, 100),
    "output length": lambda store, _: store.output_length("att_1", 1),
}


@pytest.mark.parametrize("name", _READS)
async def test_a_read_that_must_stay_flat_scans_and_sorts_nothing(
    name: str, tmp_path: Path
) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/store.sqlite", clock=lambda: NOON)
    await store.commit(*(PutExecution(execution_row(number)) for number in (1, 2)))
    token = (await store.list_executions("acme", page_size=1)).next_page_token
    database = store._database
    assert isinstance(database, SqliteDatabase)
    plans: list[str] = []

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plans.extend(row[3] for row in cursor.fetchall())

    event.listen(database._readers, "before_cursor_execute", explain)
    await _READS[name](store, token)
    await store.close()
    assert plans
    allowed_sort = "attempts_open"  # an agent's few open attempts are sorted in memory
    for plan in plans:
        assert not plan.startswith("SCAN") or "USING" in plan
        assert "TEMP B-TREE" not in plan or any(allowed_sort in other for other in plans)
