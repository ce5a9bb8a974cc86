"""Approval requests and attempts: projections that are replaced and queried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.store.samples import after, approval_row, attempt_row
from opsconductor.orchestrator.store.base import PutApproval, PutAttempt

if TYPE_CHECKING:
    from opsconductor.orchestrator.store.store import Store


async def test_an_approval_is_replaced_by_its_newer_state(store: Store) -> None:
    await store.commit(PutApproval(approval_row(1)))
    newer = approval_row(1, state="approved", expire_time=None, data=b'{"by":"alice"}')
    await store.commit(PutApproval(newer))
    assert await store.approval("appr_000001", "acme") == newer
    assert await store.approval("appr_000001", "other") is None
    assert await store.approval("appr_000002") is None


async def test_approvals_are_listed_by_state_and_execution(store: Store) -> None:
    await store.commit(
        *(PutApproval(approval_row(number)) for number in (1, 2, 3)),
        PutApproval(approval_row(4, state="approved")),
        PutApproval(approval_row(5, execution_id="exe_000002")),
        PutApproval(approval_row(6, tenant="other")),
    )

    async def ids(**filters: object) -> list[str]:
        page = await store.list_approvals("acme", **filters)  # type: ignore[arg-type]
        return [row.approval_id[-1] for row in page.rows]

    assert await ids() == ["5", "4", "3", "2", "1"]
    assert await ids(states=("pending",)) == ["5", "3", "2", "1"]
    assert await ids(execution_id="exe_000001", states=("pending",)) == ["3", "2", "1"]
    page = await store.list_approvals("acme", page_size=2)
    assert page.rows[1].create_time == after(4)
    assert await ids(page_size=2, page_token=page.next_page_token) == ["3", "2"]


async def test_attempts_come_in_the_order_of_their_grants(store: Store) -> None:
    rows = [attempt_row(1, start_order=7), attempt_row(2, start_order=None), attempt_row(3)]
    await store.commit(*(PutAttempt(row) for row in rows))
    await store.commit(PutAttempt(attempt_row(4, execution_id="exe_000002")))
    assert await store.attempts_of("exe_000001") == (rows[2], rows[0], rows[1])
    assert await store.attempt("att_000001") == rows[0]
    assert await store.attempt("att_000009") is None


async def test_an_agent_owes_reports_for_granted_and_running_attempts(store: Store) -> None:
    states = ["granted", "running", "completed", "unknown", "not_started"]
    await store.commit(
        *(PutAttempt(attempt_row(n, state=state)) for n, state in enumerate(states)),
        PutAttempt(attempt_row(9, agent_id="agt_2")),
    )
    owed = await store.attempts_open_for("agt_1")
    assert [row.state for row in owed] == ["granted", "running"]
    await store.commit(PutAttempt(attempt_row(0, state="completed")))
    assert [row.state for row in await store.attempts_open_for("agt_1")] == ["running"]
