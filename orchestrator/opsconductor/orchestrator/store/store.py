"""The store as engine and servicers see it: one commit, and reads that never wait for it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from opsconductor.orchestrator.store import output, queries, sharing_queries
from opsconductor.orchestrator.store.group_commit import GroupCommit
from opsconductor.orchestrator.store.migrate import INCARNATION
from opsconductor.orchestrator.store.news import FOR_ALL
from opsconductor.rpc.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from opsconductor.orchestrator.store.base import Database, Op
    from opsconductor.orchestrator.store.mark import Mark
    from opsconductor.orchestrator.store.news import News
    from opsconductor.orchestrator.store.pages import Page
    from opsconductor.orchestrator.store.rows import (
        AgentRow,
        ApprovalRow,
        AssetRow,
        AttemptRow,
        Chain,
        ExecutionRow,
        Load,
        Look,
        OutputChunk,
        SessionRow,
        StoredEvent,
    )


class Store:
    """Events, their projections and output, durable; opened with ``Store.open``."""

    incarnation: str
    """Random name of this database; an operator replaces it after restoring an older state."""

    version: int
    """Grows with every write of this process to what all orchestrators keep in memory."""

    def __init__(self, database: Database, incarnation: str) -> None:
        self.version = 0
        self.incarnation = incarnation
        self._database = database
        self._writer = GroupCommit(database)

    def count_with(self, mark: Mark) -> None:
        """Counts every transaction from here on, and has a mark keep the newest one's number."""
        self._writer.mark = mark

    @property
    def shared(self) -> bool:
        """Whether other orchestrators may use it at the same time."""
        return self._database.shared

    def listen(self, heard: Callable[[News], None]) -> None:
        """Calls back with what other orchestrators say they wrote: a hint, never the truth."""
        self._database.listen(heard)

    @classmethod
    async def open(cls, url: str, *, clock: Callable[[], datetime]) -> Store:
        """Opens ``sqlite:////path/file`` or ``postgresql://…`` and brings the schema up to date.

        Raises:
            StoreLocked: Another process holds the SQLite file.
            StoreUnavailable: The database does not answer, or is newer than this program.
            InvalidArgument: The URL names no database we know.
        """
        database = await _open_database(url, clock())
        try:
            incarnation = await database.read(partial(queries.meta_value, key=INCARNATION))
        except BaseException:
            await database.close()
            raise
        return cls(database, str(incarnation))

    async def close(self) -> None:
        """Writes what was asked for, then closes the database."""
        await self._writer.close()
        await self._database.close()

    async def commit(self, *ops: Op) -> list[Any]:
        """Writes operations atomically and durably; returns their results in order (see ``base``).

        Raises:
            SequenceConflict: An event number is taken; reload and decide again.
            RequestIdTaken: Another execution has the request id.
            StoreUnavailable: Nothing may be taken as written.
            OpsConductorError: What an operation's own docstring names.
        """
        results = await self._writer.commit(ops)
        self.version += sum(1 for op in ops if isinstance(op, FOR_ALL))
        return results

    # Executions

    async def events(
        self, execution_id: str, from_seq: int = 1, limit: int = 1000
    ) -> tuple[StoredEvent, ...]:
        """Returns a chain's events from a number on, in order."""
        return await self._database.read(
            partial(queries.read_events, execution_id=execution_id, from_seq=from_seq, limit=limit)
        )

    async def chain(self, execution_id: str, from_seq: int, limit: int) -> Chain:
        """Returns which replica moves an execution, and its events from a number on."""
        return await self._database.read(
            partial(
                sharing_queries.chain, execution_id=execution_id, from_seq=from_seq, limit=limit
            )
        )

    async def owner(self, execution_id: str) -> str:
        """Returns which replica moves an execution; empty when none does."""
        return await self._database.read(partial(sharing_queries.owner, execution_id=execution_id))

    async def open_executions(self) -> tuple[str, ...]:
        """Returns the ids of open executions of all tenants, oldest first."""
        return await self._database.read(queries.open_executions)

    async def count_open(self, tenant: str) -> int:
        """Returns how many executions of a tenant are open."""
        return await self._database.read(partial(queries.count_open, tenant=tenant))

    async def execution(
        self, id_or_external_id: str, tenant: str | None = None
    ) -> ExecutionRow | None:
        """Returns an execution by our id, or the newest with the caller's, of a tenant or any."""
        return await self._database.read(
            partial(queries.execution, id_=id_or_external_id, tenant=tenant)
        )

    async def execution_by_request(self, tenant: str, request_id: str) -> ExecutionRow | None:
        """Returns the execution that a submission with this request id made."""
        return await self._database.read(
            partial(queries.execution_by_request, tenant=tenant, request_id=request_id)
        )

    async def list_executions(
        self,
        tenant: str,
        *,
        states: Sequence[str] = (),
        text: str = "",
        page_size: int = 50,
        page_token: str = "",
    ) -> Page[ExecutionRow]:
        """Returns executions newest first, in any of the states, holding every word of ``text``."""
        return await self._database.read(
            partial(
                queries.list_executions,
                tenant=tenant,
                states=states,
                words=text,
                page_size=page_size,
                page_token=page_token,
            )
        )

    # Approvals

    async def approval(self, approval_id: str, tenant: str | None = None) -> ApprovalRow | None:
        """Returns an approval request."""
        return await self._database.read(
            partial(queries.approval, approval_id=approval_id, tenant=tenant)
        )

    async def list_approvals(
        self,
        tenant: str,
        *,
        states: Sequence[str] = (),
        execution_id: str = "",
        page_size: int = 50,
        page_token: str = "",
    ) -> Page[ApprovalRow]:
        """Returns approval requests newest first, in any of the states, of one execution or all."""
        return await self._database.read(
            partial(
                queries.list_approvals,
                tenant=tenant,
                states=states,
                execution_id=execution_id,
                page_size=page_size,
                page_token=page_token,
            )
        )

    # Attempts and their output

    async def attempts_of(self, execution_id: str) -> tuple[AttemptRow, ...]:
        """Returns an execution's attempts, in the order they were granted."""
        return await self._database.read(partial(queries.attempts_of, execution_id=execution_id))

    async def attempt(self, attempt_id: str) -> AttemptRow | None:
        """Returns an attempt."""
        return await self._database.read(partial(queries.attempt, attempt_id=attempt_id))

    async def attempts_open_for(self, agent_id: str) -> tuple[AttemptRow, ...]:
        """Returns the attempts an agent owes a report for (granted or running)."""
        return await self._database.read(partial(queries.attempts_open_for, agent_id=agent_id))

    async def output(
        self, attempt_id: str, stream: int, offset: int = 0, limit: int = 64 * 1024
    ) -> tuple[OutputChunk, ...]:
        """Returns stored bytes from ``offset`` on, at most ``limit``, in order and without gaps."""
        return await self._database.read(
            partial(
                output.read_range, attempt_id=attempt_id, stream=stream, offset=offset, limit=limit
            )
        )

    async def output_length(self, attempt_id: str, stream: int) -> int:
        """Returns how many bytes of a stream are stored."""
        return await self._database.read(
            partial(output.stored_length, attempt_id=attempt_id, stream=stream)
        )

    # Replicas

    async def look(self, replica_id: str) -> Look:
        """Returns who is there, and where every execution stands that a replica moves."""
        return await self._database.read(partial(sharing_queries.look, replica_id=replica_id))

    async def sessions(self) -> tuple[SessionRow, ...]:
        """Returns which agents have a session at which replica."""
        return await self._database.read(sharing_queries.sessions)

    async def load(self, replica_id: str) -> Load:
        """Returns the locks and agents' places that are taken for other replicas' executions."""
        return await self._database.read(partial(sharing_queries.load, replica_id=replica_id))

    # Agents and assets

    async def agent(self, id_or_name: str, tenant: str | None = None) -> AgentRow | None:
        """Returns an agent by id, or else by name."""
        return await self._database.read(
            partial(queries.agent, id_or_name=id_or_name, tenant=tenant)
        )

    async def agents(self, tenant: str | None = None) -> tuple[AgentRow, ...]:
        """Returns the agents of a tenant, or of all, by name."""
        return await self._database.read(partial(queries.list_agents, tenant=tenant))

    async def asset(self, tenant: str, name: str) -> AssetRow | None:
        """Returns an asset by its exact name."""
        return await self._database.read(partial(queries.asset, tenant=tenant, name=name))

    async def assets(self, tenant: str) -> tuple[AssetRow, ...]:
        """Returns all assets of a tenant by name."""
        return await self._database.read(partial(queries.query_assets, tenant=tenant))

    async def query_assets(
        self,
        tenant: str,
        *,
        type_: str = "",
        segment: str = "",
        name: str = "",
        after: str = "",
        limit: int | None = None,
    ) -> tuple[AssetRow, ...]:
        """Returns assets by name; ``name`` is a part of it, ``after`` the last one seen."""
        return await self._database.read(
            partial(
                queries.query_assets,
                tenant=tenant,
                type_=type_,
                segment=segment,
                name=name,
                after=after,
                limit=limit,
            )
        )

    async def meta(self, key: str) -> str | None:
        """Returns a value of the store as a whole."""
        return await self._database.read(partial(queries.meta_value, key=key))

    async def meta_values(self) -> dict[str, str]:
        """Returns all values of the store as a whole, as they are at one moment."""
        return await self._database.read(queries.meta_values)


async def _open_database(url: str, now: datetime) -> Database:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    kind = parsed.drivername.partition("+")[0] if parsed else ""
    if parsed and kind == "sqlite" and parsed.database not in (None, "", ":memory:"):
        from opsconductor.orchestrator.store.sqlite import SqliteDatabase

        return await SqliteDatabase.open(Path(str(parsed.database)), now)
    if parsed and kind in ("postgresql", "postgres"):
        # asyncpg and SQLAlchemy's asyncio side are loaded only where they are used.
        from opsconductor.orchestrator.store.postgres import PostgresDatabase

        return await PostgresDatabase.open(parsed, now)
    raise InvalidArgument(
        f"the store's URL begins with {url.partition(':')[0]!r}: "
        "expected sqlite:////path/to/file or postgresql://user@host/database"
    )
