"""Reads of the store: synchronous functions of a connection, served by both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, func, select, text

from opsconductor.orchestrator.store.pages import Listing, Page, columns_of
from opsconductor.orchestrator.store.rows import (
    AgentRow,
    ApprovalRow,
    AssetRow,
    AttemptRow,
    ExecutionRow,
    StoredEvent,
)
from opsconductor.orchestrator.store.schema import (
    agents,
    approvals,
    assets,
    attempts,
    events,
    executions,
    meta,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection, TextClause


_EXECUTIONS = columns_of(executions, ExecutionRow)
_APPROVALS = columns_of(approvals, ApprovalRow)
_ATTEMPTS = columns_of(attempts, AttemptRow)
_AGENTS = columns_of(agents, AgentRow)
_ASSETS = columns_of(assets, AssetRow)
_EVENTS = (
    columns_of(events, StoredEvent)
    .where(events.c.execution_id == bindparam("id"), events.c.seq >= bindparam("first"))
    .order_by(events.c.seq)
    .limit(bindparam("count"))
)
_EXECUTION_PAGES = Listing(executions, ExecutionRow, "execution_id")
_APPROVAL_PAGES = Listing(approvals, ApprovalRow, "approval_id")


def _partial(condition: str) -> TextClause:
    """Repeats a partial index's condition word for word, or SQLite does not use the index."""
    return text(condition)


_IS_OPEN = _partial("open")
_HAS_REQUEST_ID = _partial("request_id <> ''")
_HAS_EXTERNAL_ID = _partial("external_id <> ''")
_OWES_REPORT = _partial("state IN ('granted', 'running')")


def read_events(
    connection: Connection, execution_id: str, from_seq: int, limit: int
) -> tuple[StoredEvent, ...]:
    """Returns a chain's events from a number on, in order."""
    rows = connection.execute(_EVENTS, {"id": execution_id, "first": from_seq, "count": limit})
    return tuple(StoredEvent(*row) for row in rows)


def open_executions(connection: Connection) -> tuple[str, ...]:
    """Returns the ids of open executions, oldest first."""
    query = select(executions.c.execution_id).where(_IS_OPEN).order_by(executions.c.execution_id)
    return tuple(connection.execute(query).scalars())


def count_open(connection: Connection, tenant: str) -> int:
    """Returns how many executions of a tenant are open."""
    query = select(func.count()).where(_IS_OPEN, executions.c.tenant == bindparam("tenant"))
    return int(connection.execute(query, {"tenant": tenant}).scalar_one())


def execution(connection: Connection, id_: str, tenant: str | None) -> ExecutionRow | None:
    """Returns an execution by our id, or the newest by the caller's id."""
    theirs = _of_tenant(executions.c.tenant, tenant)
    row = connection.execute(_EXECUTIONS.where(executions.c.execution_id == id_, *theirs)).first()
    if row is None and id_:
        newest = executions.c.create_time.desc(), executions.c.execution_id.desc()
        query = _EXECUTIONS.where(executions.c.external_id == id_, _HAS_EXTERNAL_ID, *theirs)
        row = connection.execute(query.order_by(*newest).limit(1)).first()
    return None if row is None else ExecutionRow(*row)


def execution_by_request(
    connection: Connection, tenant: str, request_id: str
) -> ExecutionRow | None:
    """Returns the execution a submission made."""
    row = connection.execute(
        _EXECUTIONS.where(
            executions.c.tenant == tenant, executions.c.request_id == request_id, _HAS_REQUEST_ID
        )
    ).first()
    return None if row is None else ExecutionRow(*row)


def list_executions(
    connection: Connection,
    tenant: str,
    states: Sequence[str],
    words: str,
    page_size: int,
    page_token: str,
) -> Page[ExecutionRow]:
    """Returns a tenant's executions whose search text holds every word, newest first."""
    filters: list[ColumnElement[bool]] = [executions.c.tenant == tenant]
    filters += [
        executions.c.search_text.contains(word, autoescape=True) for word in words.lower().split()
    ]
    return _EXECUTION_PAGES.page(connection, filters, states, page_size, page_token)


def approval(connection: Connection, approval_id: str, tenant: str | None) -> ApprovalRow | None:
    """Returns an approval request."""
    query = _APPROVALS.where(
        approvals.c.approval_id == approval_id, *_of_tenant(approvals.c.tenant, tenant)
    )
    row = connection.execute(query).first()
    return None if row is None else ApprovalRow(*row)


def list_approvals(
    connection: Connection,
    tenant: str,
    states: Sequence[str],
    execution_id: str,
    page_size: int,
    page_token: str,
) -> Page[ApprovalRow]:
    """Returns a tenant's approval requests, of one execution when named, newest first."""
    filters: list[ColumnElement[bool]] = [approvals.c.tenant == tenant]
    if execution_id:
        filters.append(approvals.c.execution_id == execution_id)
    return _APPROVAL_PAGES.page(connection, filters, states, page_size, page_token)


def attempts_of(connection: Connection, execution_id: str) -> tuple[AttemptRow, ...]:
    """Returns an execution's attempts, in the order they were granted."""
    query = _ATTEMPTS.where(attempts.c.execution_id == execution_id).order_by(
        attempts.c.start_order.is_(None), attempts.c.start_order, attempts.c.attempt_id
    )
    return tuple(AttemptRow(*row) for row in connection.execute(query))


def attempt(connection: Connection, attempt_id: str) -> AttemptRow | None:
    """Returns an attempt."""
    row = connection.execute(_ATTEMPTS.where(attempts.c.attempt_id == attempt_id)).first()
    return None if row is None else AttemptRow(*row)


def attempts_open_for(connection: Connection, agent_id: str) -> tuple[AttemptRow, ...]:
    """Returns the attempts an agent owes a report for."""
    query = _ATTEMPTS.where(attempts.c.agent_id == agent_id, _OWES_REPORT)
    rows = connection.execute(query.order_by(attempts.c.execution_id, attempts.c.attempt_id))
    return tuple(AttemptRow(*row) for row in rows)


def agent(connection: Connection, id_or_name: str, tenant: str | None) -> AgentRow | None:
    """Returns an agent by id, or else by name."""
    theirs = _of_tenant(agents.c.tenant, tenant)
    for column in (agents.c.agent_id, agents.c.name):
        query = _AGENTS.where(column == id_or_name, *theirs).order_by(agents.c.tenant).limit(1)
        row = connection.execute(query).first()
        if row is not None:
            return AgentRow(*row)
    return None


def list_agents(connection: Connection, tenant: str | None) -> tuple[AgentRow, ...]:
    """Returns the agents by name."""
    query = _AGENTS.where(*_of_tenant(agents.c.tenant, tenant))
    rows = connection.execute(query.order_by(agents.c.tenant, agents.c.name))
    return tuple(AgentRow(*row) for row in rows)


def asset(connection: Connection, tenant: str, name: str) -> AssetRow | None:
    """Returns an asset by its exact name."""
    row = connection.execute(
        _ASSETS.where(assets.c.tenant == tenant, assets.c.name == name)
    ).first()
    return None if row is None else AssetRow(*row)


def query_assets(
    connection: Connection,
    tenant: str,
    *,
    type_: str = "",
    segment: str = "",
    name: str = "",
    after: str = "",
    limit: int | None = None,
) -> tuple[AssetRow, ...]:
    """Returns a tenant's assets by name, narrowed by what is not empty; ``name`` is a part."""
    query = _ASSETS.where(assets.c.tenant == tenant, assets.c.name > after)
    if type_:
        query = query.where(assets.c.type == type_)
    if segment:
        query = query.where(assets.c.segment == segment)
    if name:
        query = query.where(assets.c.name.icontains(name, autoescape=True))
    rows = connection.execute(query.order_by(assets.c.name).limit(limit))
    return tuple(AssetRow(*row) for row in rows)


def meta_value(connection: Connection, key: str) -> str | None:
    """Returns a value of the store as a whole."""
    return connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar()


def meta_values(connection: Connection) -> dict[str, str]:
    """Returns every value that belongs to the store as a whole, as they are at one moment."""
    return {row.key: row.value for row in connection.execute(select(meta.c.key, meta.c.value))}


def _of_tenant(column: ColumnElement[str], tenant: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if tenant is None else (column == tenant,)
