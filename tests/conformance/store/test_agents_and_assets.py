"""Agents, their epochs and join tokens, the inventory, and what belongs to the store as a whole."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from conformance.store.samples import NOON, after, agent_row, execution_row
from opsconductor.orchestrator.store import facts
from opsconductor.orchestrator.store.base import (
    BumpSessionEpoch,
    ChangeAgent,
    CreateJoinToken,
    DeleteAsset,
    OpenSession,
    PutAgent,
    PutAsset,
    PutExecution,
    RedeemJoinToken,
    SetMeta,
)
from opsconductor.orchestrator.store.rows import AssetRow, JoinGrant
from opsconductor.rpc.errors import DuplicateAgent, NotFound, TokenInvalid

if TYPE_CHECKING:
    from opsconductor.orchestrator.store.store import Store


async def test_an_agent_is_found_by_id_and_by_name(store: Store) -> None:
    await store.commit(PutAgent(agent_row(2)), PutAgent(agent_row(1)))
    assert await store.agent("agt_1") == agent_row(1)
    assert await store.agent("edge-1", "acme") == agent_row(1)
    assert await store.agent("edge-1", "other") is None
    assert await store.agents() == (agent_row(1), agent_row(2))
    assert await store.agents("other") == ()


async def test_a_second_agent_of_the_same_name_is_refused(store: Store) -> None:
    await store.commit(PutAgent(agent_row(1)))
    with pytest.raises(DuplicateAgent, match="edge-1"):
        await store.commit(PutAgent(agent_row(2, name="edge-1")))
    await store.commit(PutAgent(agent_row(3, name="edge-1", tenant="other")))


async def test_epochs_rise_by_one_and_survive_an_update_of_the_agent(store: Store) -> None:
    await store.commit(PutAgent(agent_row(1)), PutAgent(agent_row(2)))
    assert await store.commit(BumpSessionEpoch("agt_1")) == [1]
    await store.commit(PutAgent(agent_row(1, last_seen_time=after(5), session_epoch=99)))
    bumps = [store.commit(BumpSessionEpoch("agt_1")) for _ in range(20)]
    assert sorted(epoch for [epoch] in await asyncio.gather(*bumps)) == [*range(2, 22)]
    found = await store.agent("agt_1")
    assert found == agent_row(1, last_seen_time=after(5), session_epoch=21)
    with pytest.raises(NotFound, match="agt_9"):
        await store.commit(BumpSessionEpoch("agt_9"))


TOKEN = CreateJoinToken("hash", "acme", "edge-1", "dmz", after(900))
GRANT = JoinGrant("acme", "edge-1", "dmz")


async def test_a_token_redeemed_by_twenty_at_once_admits_exactly_one(store: Store) -> None:
    await store.commit(TOKEN)
    calls = [store.commit(RedeemJoinToken("hash", NOON, f"agt_{n}")) for n in range(20)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [outcome for outcome in outcomes if isinstance(outcome, list)] == [[GRANT]]
    refusals = [outcome for outcome in outcomes if isinstance(outcome, TokenInvalid)]
    assert len(refusals) == 19
    assert {error.message for error in refusals} == {"the join token was used before"}


async def test_an_agent_that_lost_the_answer_redeems_its_token_again(store: Store) -> None:
    await store.commit(TOKEN)
    for _ in range(2):
        assert await store.commit(RedeemJoinToken("hash", NOON, "agt_1")) == [GRANT]


async def test_an_expired_or_unknown_token_is_refused(store: Store) -> None:
    await store.commit(TOKEN)
    with pytest.raises(TokenInvalid, match="expired"):
        await store.commit(RedeemJoinToken("hash", TOKEN.expire_time, "agt_1"))
    with pytest.raises(TokenInvalid, match="not known"):
        await store.commit(RedeemJoinToken("other", NOON, "agt_1"))
    just_before = TOKEN.expire_time - timedelta(microseconds=1)
    assert await store.commit(RedeemJoinToken("hash", just_before, "agt_1")) == [GRANT]


async def test_a_refused_call_does_not_use_up_its_token(store: Store) -> None:
    await store.commit(TOKEN, PutAgent(agent_row(1)))
    taken = agent_row(2, name="edge-1")
    with pytest.raises(DuplicateAgent):
        await store.commit(RedeemJoinToken("hash", NOON, "agt_2"), PutAgent(taken))
    assert await store.commit(RedeemJoinToken("hash", NOON, "agt_3")) == [GRANT]


def _asset(name: str, type_: str = "server", segment: str = "dmz") -> PutAsset:
    return PutAsset("acme", name, type_, segment, b'{"name":"' + name.encode() + b'"}')


def _row(put: PutAsset) -> AssetRow:
    return AssetRow(put.tenant, put.name, put.type, put.segment, put.document)


async def test_assets_are_replaced_queried_and_deleted(store: Store) -> None:
    web, web2, database = _asset("Web-01"), _asset("web-02"), _asset("db_1", "database", "office")
    await store.commit(web, web2, database, PutAsset("other", "web-01", "server", "dmz", b"{}"))
    await store.commit(PutAsset("acme", "Web-01", "server", "lab", b"{}"))
    moved = AssetRow("acme", "Web-01", "server", "lab", b"{}")
    assert await store.asset("acme", "Web-01") == moved
    assert await store.asset("acme", "web-01") is None
    assert set(await store.assets("acme")) == {moved, _row(web2), _row(database)}
    assert await store.query_assets("acme", type_="database") == (_row(database),)
    assert await store.query_assets("acme", segment="dmz") == (_row(web2),)
    assert await store.query_assets("acme", name="WEB") == (moved, _row(web2))
    assert await store.query_assets("acme", name="b_1") == (_row(database),)
    assert await store.query_assets("acme", name="b%1") == ()
    assert await store.commit(DeleteAsset("acme", "Web-01")) == [True]
    assert await store.commit(DeleteAsset("acme", "Web-01")) == [False]
    assert await store.asset("acme", "Web-01") is None


async def test_assets_are_paged_by_the_last_name(store: Store) -> None:
    await store.commit(*(_asset(f"host-{number}") for number in range(5)))
    first = await store.query_assets("acme", limit=2)
    rest = await store.query_assets("acme", after=first[-1].name)
    names = [asset.name for asset in (*first, *rest)]
    assert names == [f"host-{number}" for number in range(5)]


async def test_writes_to_one_asset_in_one_batch_keep_their_order(store: Store) -> None:
    put, deleted, again = await asyncio.gather(
        store.commit(_asset("host")),
        store.commit(DeleteAsset("acme", "host")),
        store.commit(_asset("host", segment="lab")),
    )
    assert (put, deleted, again) == ([None], [True], [None])
    found = await store.asset("acme", "host")
    assert found is not None
    assert found.segment == "lab"


async def test_the_store_keeps_values_of_its_own(store: Store) -> None:
    assert await store.meta("safe_mode") is None
    await store.commit(SetMeta("safe_mode", "on"))
    await store.commit(SetMeta("safe_mode", "off"))
    assert await store.meta("safe_mode") == "off"


async def test_the_next_epoch_is_above_what_an_agent_has_seen(store: Store) -> None:
    await store.commit(PutAgent(agent_row(1)))
    epochs = [
        (await store.commit(OpenSession("agt_1", "journal", {}, NOON, above=above)))[0]
        for above in (0, 41, 5)
    ]
    assert [row.session_epoch for row in epochs] == [1, 42, 43]
    with pytest.raises(NotFound):
        await store.commit(OpenSession("agt_9", "journal", {}, NOON))


async def test_facts_of_an_agent_are_changed_one_by_one(store: Store) -> None:
    await store.commit(PutAgent(agent_row(1)))
    await store.commit(
        OpenSession("agt_1", "journal", {("version",): "1", ("labels",): {"a": "b"}}, NOON)
    )
    await store.commit(ChangeAgent("agt_1", facts={("kept", "ping"): "it died", ("epoch",): 7}))
    await store.commit(ChangeAgent("agt_1", facts={("kept", "dig"): "so did that"}))
    await store.commit(OpenSession("agt_1", "journal", {("labels",): {}}, NOON))
    row = await store.agent("agt_1")
    assert row is not None
    assert facts.read(row.facts) == {
        "version": "1",
        "labels": {},
        "kept": {"ping": "it died", "dig": "so did that"},
        "epoch": 7,
    }
    await store.commit(ChangeAgent("agt_1", facts={("kept", "ping"): None, ("epoch",): None}))
    row = await store.agent("agt_1")
    assert row is not None
    assert facts.read(row.facts)["kept"] == {"dig": "so did that"}
    with pytest.raises(NotFound):
        await store.commit(ChangeAgent("agt_9", facts={("epoch",): 1}))


async def test_open_executions_are_counted_by_tenant(store: Store) -> None:
    await store.commit(PutExecution(execution_row(1)))
    await store.commit(PutExecution(execution_row(2, tenant="other")))
    await store.commit(PutExecution(execution_row(3, open=False)))
    assert (await store.count_open("acme"), await store.count_open("nobody")) == (1, 0)
