"""Executions: found by either id, one per request, listed newest first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from conformance.store.samples import after, execution_row
from opsconductor.orchestrator.store.base import PutExecution, RequestIdTaken
from opsconductor.orchestrator.store.pages import Page
from opsconductor.rpc.errors import InvalidArgument

if TYPE_CHECKING:
    from opsconductor.orchestrator.store.store import Store

LOWER = "restart nginx web-01"


async def _put(store: Store, *numbers: int, **changes: object) -> None:
    await store.commit(*(PutExecution(execution_row(number, **changes)) for number in numbers))


async def test_an_execution_is_replaced_by_its_newer_state(store: Store) -> None:
    await _put(store, 1)
    newer = execution_row(
        1,
        state="completed",
        start_time=after(2),
        end_time=after(3.5),
        last_seq=9,
        open=False,
        summary=b"\x00\xff",
        search_text=LOWER,
    )
    await store.commit(PutExecution(newer))
    assert await store.execution("exe_000001", "acme") == newer


async def test_an_execution_is_found_by_the_callers_id_the_newest_first(store: Store) -> None:
    await _put(store, 1, 2, external_id="ticket-7")
    await _put(store, 3)
    found = await store.execution("ticket-7", "acme")
    assert found is not None
    assert found.execution_id == "exe_000002"
    assert await store.execution("", "acme") is None


async def test_another_tenants_execution_is_not_found(store: Store) -> None:
    await _put(store, 1, external_id="ticket-7")
    assert await store.execution("exe_000001", "other") is None
    assert await store.execution("ticket-7", "other") is None
    assert await store.execution("exe_000001") is not None


async def test_a_request_id_is_used_once_per_tenant(store: Store) -> None:
    await _put(store, 1, request_id="r1", request_hash="sha256:a")
    with pytest.raises(RequestIdTaken) as caught:
        await _put(store, 2, request_id="r1", request_hash="sha256:b")
    assert (caught.value.execution_id, caught.value.request_hash) == ("exe_000001", "sha256:a")
    await _put(store, 3, request_id="r1", tenant="other")
    await _put(store, 4, 5, request_id="")
    found = await store.execution_by_request("acme", "r1")
    assert found is not None
    assert found.execution_id == "exe_000001"
    assert await store.execution_by_request("acme", "") is None


async def test_of_many_submissions_with_one_request_id_exactly_one_is_kept(store: Store) -> None:
    calls = [_put(store, number, request_id="r1") for number in range(20)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    taken = [outcome for outcome in outcomes if isinstance(outcome, RequestIdTaken)]
    assert len(taken) == 19
    kept = await store.execution_by_request("acme", "r1")
    assert kept is not None
    assert {error.execution_id for error in taken} == {kept.execution_id}


async def test_open_executions_of_all_tenants_are_listed_oldest_first(store: Store) -> None:
    await _put(store, 3, 1)
    await _put(store, 2, open=False)
    await _put(store, 4, tenant="other")
    assert await store.open_executions() == ("exe_000001", "exe_000003", "exe_000004")


async def _walk(store: Store, size: int, **filters: object) -> list[str]:
    found: list[str] = []
    token = ""
    while True:
        page = await store.list_executions("acme", page_size=size, page_token=token, **filters)  # type: ignore[arg-type]
        assert len(page.rows) <= size
        found += [row.execution_id for row in page.rows]
        token = page.next_page_token
        if not token:
            return found


async def test_pages_walk_all_executions_newest_first(store: Store) -> None:
    await _put(store, *range(1, 8))
    await _put(store, *range(8, 11), create_time=after(3))  # three more at the same moment
    await _put(store, 11, tenant="other")
    whole = [f"exe_{number:06}" for number in (7, 6, 5, 4, 10, 9, 8, 3, 2, 1)]
    for size in (1, 3, 10, 1000):
        assert await _walk(store, size) == whole


async def test_a_walk_is_not_disturbed_by_new_executions(store: Store) -> None:
    await _put(store, *range(1, 5))
    page = await store.list_executions("acme", page_size=2)
    await _put(store, 9)
    rest = await store.list_executions("acme", page_size=5, page_token=page.next_page_token)
    assert [row.execution_id for row in rest.rows] == ["exe_000002", "exe_000001"]


async def test_lists_are_narrowed_by_states(store: Store) -> None:
    for number in range(1, 13):
        state = ("running", "failed", "completed")[number % 3]
        await _put(store, number, state=state)
    wanted = [f"exe_{number:06}" for number in (12, 10, 9, 7, 6, 4, 3, 1)]
    for size in (1, 3, 50):
        assert await _walk(store, size, states=("running", "failed")) == wanted
    assert await _walk(store, 5, states=("paused",)) == []


async def test_lists_are_narrowed_by_every_word_whatever_its_case(store: Store) -> None:
    await _put(store, 1, search_text="Restart NGINX on web-01")
    await _put(store, 2, search_text="restart postgres on db_01")
    await _put(store, 3, search_text="usage is 100% on dbx01")
    assert await _walk(store, 9, text="restart") == ["exe_000002", "exe_000001"]
    assert await _walk(store, 9, text="WEB nginx") == ["exe_000001"]
    assert await _walk(store, 9, text="db_01") == ["exe_000002"]
    assert await _walk(store, 9, text="100%") == ["exe_000003"]
    assert await _walk(store, 9, text="%") == ["exe_000003"]
    assert await _walk(store, 9, text="nginx postgres") == []


@pytest.mark.parametrize(
    "token", ["nonsense", "AAAA", "====", "é", "MTIz.", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTkuYQ"]
)
async def test_a_foreign_page_token_is_refused_and_named(store: Store, token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await store.list_executions("acme", page_token=token)
    [fault] = caught.value.faults
    assert (fault.code, fault.field) == ("PAGE_TOKEN", "page_token")


async def test_looking_for_what_no_database_holds_is_the_callers_fault(store: Store) -> None:
    with pytest.raises(InvalidArgument, match="cannot look for this"):
        await store.execution("lone surrogate \ud800", "acme")
    assert await store.list_executions("acme") == Page((), "")
