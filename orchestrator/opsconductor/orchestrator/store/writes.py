"""What each operation does to the tables.

Operations of the hot path only add rows, which are written together, one statement per table. The
others are rare and run at once, in their order.
"""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import TextClause, bindparam, case, delete, select, text, update

from opsconductor.orchestrator.store import base, facts, rows, schema, sharing, sharing_writes
from opsconductor.orchestrator.store.chains import Chains
from opsconductor.orchestrator.store.mark import COUNTS
from opsconductor.orchestrator.store.output import OutputFold, Stream
from opsconductor.orchestrator.store.pages import columns_of
from opsconductor.rpc.errors import NotFound, TokenInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sqlalchemy import Connection, Table

    from opsconductor.orchestrator.store.facts import Changes


def _statement(table: Table, names: Iterable[str], conflict: str) -> TextClause:
    columns = [table.c[name] for name in names]
    quoted = ", ".join(f'"{column.name}"' for column in columns)
    values = ", ".join(f":{column.name}" for column in columns)
    sql = f"INSERT INTO {table.name} ({quoted}) VALUES ({values}) {conflict}"  # noqa: S608 - own names
    return text(sql).bindparams(*(bindparam(c.name, type_=c.type) for c in columns))


def _upsert(table: Table, names: tuple[str, ...], *key: str) -> TextClause:
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in names if name not in key)
    return _statement(table, names, f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}")


class _Projection:
    """Upserts rows of one dataclass into its table."""

    def __init__(self, table: Table, row: type, *key: str, leave: str = "") -> None:
        self.names = tuple(item.name for item in fields(row) if item.name != leave)
        self.statement = _upsert(table, self.names, *key)
        self._values = attrgetter(*self.names)

    def parameters(self, row: object) -> dict[str, Any]:
        return dict(zip(self.names, self._values(row), strict=True))


_EVENT_NAMES = ("execution_id", "seq", "type", "time", "data", "hash")
_INSERT_EVENT = _statement(schema.events, _EVENT_NAMES, "")
_EXECUTION = _Projection(schema.executions, rows.ExecutionRow, "execution_id")
_APPROVAL = _Projection(schema.approvals, rows.ApprovalRow, "approval_id")
_ATTEMPT = _Projection(schema.attempts, rows.AttemptRow, "attempt_id")
_AGENT = _Projection(schema.agents, rows.AgentRow, "agent_id", leave="session_epoch")
_ASSET = _Projection(schema.assets, base.PutAsset, "tenant", "name")
_META = _Projection(schema.meta, base.SetMeta, "key")
_TOKEN_NAMES = ("token_hash", "tenant", "name", "segment", "expire_time")
_INSERT_TOKEN = _statement(schema.join_tokens, _TOKEN_NAMES, "ON CONFLICT (token_hash) DO NOTHING")


class Writes:
    """The writes of one transaction, gathered and then flushed."""

    def __init__(self, connection: Connection, lengths: Mapping[Stream, int]) -> None:
        self.connection = connection
        self.output = OutputFold(connection, lengths)
        self.guards = sharing_writes.Guards(connection)
        self.chains = Chains(connection)
        self._rows: dict[TextClause, list[dict[str, Any]]] = {}

    def apply(self, op: base.Op) -> Any:
        """Takes one operation and returns its result; raises what its docstring names."""
        if at_once := sharing_writes.AT_ONCE.get(type(op)):
            return at_once(self.connection, op)
        return _APPLY[type(op)](self, op)

    def add(self, statement: TextClause, parameters: dict[str, Any]) -> None:
        """Adds a row to those that are written together."""
        self._rows.setdefault(statement, []).append(parameters)

    def flush(self) -> None:
        """Writes what was gathered."""
        self.guards.flush()
        self.chains.check()
        for statement, parameters in self._rows.items():
            # By key: writers that meet in the same rows then wait for each other in one order.
            parameters.sort(key=_first_value)
            self.connection.execute(statement, parameters)
        self._rows.clear()
        self.output.flush()


def _first_value(parameters: Mapping[str, Any]) -> str:
    return str(next(iter(parameters.values())))


def _append_events(writes: Writes, op: base.AppendEvents) -> None:
    writes.chains.add(op)
    for item in op.events:
        values = (op.execution_id, item.seq, item.type, item.time, item.data, item.hash)
        writes.add(_INSERT_EVENT, dict(zip(_EVENT_NAMES, values, strict=True)))


def _put_execution(writes: Writes, op: base.PutExecution) -> None:
    parameters = _EXECUTION.parameters(op.row)
    parameters["search_text"] = op.row.search_text.lower()
    writes.add(_EXECUTION.statement, parameters)


def _put_approval(writes: Writes, op: base.PutApproval) -> None:
    writes.add(_APPROVAL.statement, _APPROVAL.parameters(op.row))


def _put_attempt(writes: Writes, op: base.PutAttempt) -> None:
    writes.add(_ATTEMPT.statement, _ATTEMPT.parameters(op.row))


def _append_output(writes: Writes, op: base.AppendOutput) -> int:
    return writes.output.append(op)


def _put_agent(writes: Writes, op: base.PutAgent) -> None:
    writes.connection.execute(_AGENT.statement, _AGENT.parameters(op.row))


_AGENT_ROW = columns_of(schema.agents, rows.AgentRow).selected_columns
_EPOCH = schema.agents.c.session_epoch
_NEXT_EPOCH = case((bindparam("above") > _EPOCH, bindparam("above")), else_=_EPOCH) + 1
_FACTS = select(schema.agents.c.facts).where(schema.agents.c.agent_id == bindparam("id"))
_INTRODUCE = (
    update(schema.agents)
    .where(schema.agents.c.agent_id == bindparam("id"))
    .values(
        session_epoch=_NEXT_EPOCH,
        journal_id=bindparam("journal"),
        facts=bindparam("said"),
        last_seen_time=bindparam("now", type_=schema.Instant),
    )
    .returning(*_AGENT_ROW)
)


def _facts(writes: Writes, agent_id: str, changes: Changes) -> bytes:
    """Returns an agent's facts as they become; its row is held until the transaction ends."""
    found = writes.connection.execute(_FACTS.with_for_update(), {"id": agent_id}).scalar()
    return facts.changed(found, changes)


def _open_session(writes: Writes, op: base.OpenSession) -> rows.AgentRow:
    said = {
        "id": op.agent_id,
        "journal": op.journal_id,
        "said": _facts(writes, op.agent_id, op.facts),
        "now": op.now,
        "above": op.above,
    }
    row = writes.connection.execute(_INTRODUCE, said).first()
    if row is None:
        raise NotFound(f"there is no agent {op.agent_id}")
    return rows.AgentRow(*row)


_CHANGEABLE = tuple(item.name for item in fields(base.ChangeAgent) if item.name != "agent_id")


def _change_agent(writes: Writes, op: base.ChangeAgent) -> None:
    given = {name: getattr(op, name) for name in _CHANGEABLE if getattr(op, name) is not None}
    if op.facts is not None:
        given["facts"] = _facts(writes, op.agent_id, op.facts)
    change = update(schema.agents).where(schema.agents.c.agent_id == op.agent_id).values(given)
    if not writes.connection.execute(change).rowcount:
        raise NotFound(f"there is no agent {op.agent_id}")


_BUMP = (
    update(schema.agents)
    .where(schema.agents.c.agent_id == bindparam("id"))
    .values(session_epoch=schema.agents.c.session_epoch + 1)
    .returning(schema.agents.c.session_epoch)
)


def _bump_session_epoch(writes: Writes, op: base.BumpSessionEpoch) -> int:
    epoch = writes.connection.execute(_BUMP, {"id": op.agent_id}).scalar()
    if epoch is None:
        raise NotFound(f"there is no agent {op.agent_id}")
    return int(epoch)


def _create_join_token(writes: Writes, op: base.CreateJoinToken) -> None:
    parameters = {name: getattr(op, name) for name in _TOKEN_NAMES}
    writes.connection.execute(_INSERT_TOKEN, parameters)


_TOKEN = schema.join_tokens.c
_REDEEM = (
    update(schema.join_tokens)
    .where(
        _TOKEN.token_hash == bindparam("hash"),
        _TOKEN.agent_id.is_(None) | (_TOKEN.agent_id == bindparam("agent")),
        _TOKEN.expire_time > bindparam("now", type_=schema.Instant),
    )
    .values(agent_id=bindparam("agent"))
    .returning(_TOKEN.tenant, _TOKEN.name, _TOKEN.segment)
)
_TOKEN_STATE = select(_TOKEN.agent_id).where(_TOKEN.token_hash == bindparam("hash"))


def _redeem_join_token(writes: Writes, op: base.RedeemJoinToken) -> rows.JoinGrant:
    row = writes.connection.execute(
        _REDEEM, {"hash": op.token_hash, "agent": op.agent_id, "now": op.now}
    ).first()
    if row is not None:
        return rows.JoinGrant(*row)
    state = writes.connection.execute(_TOKEN_STATE, {"hash": op.token_hash}).first()
    if state is None:
        raise TokenInvalid("the join token is not known")
    raise TokenInvalid(
        "the join token has expired" if state[0] is None else "the join token was used before"
    )


def _put_asset(writes: Writes, op: base.PutAsset) -> None:
    writes.connection.execute(_ASSET.statement, _ASSET.parameters(op))


_DELETE_ASSET = delete(schema.assets).where(
    schema.assets.c.tenant == bindparam("tenant"), schema.assets.c.name == bindparam("name")
)


def _delete_asset(writes: Writes, op: base.DeleteAsset) -> bool:
    found = writes.connection.execute(_DELETE_ASSET, {"tenant": op.tenant, "name": op.name})
    return found.rowcount > 0


def _set_meta(writes: Writes, op: base.SetMeta) -> None:
    writes.connection.execute(_META.statement, _META.parameters(op))


def _drop_meta(writes: Writes, op: base.DropMeta) -> None:
    key, value = schema.meta.c.key == op.key, schema.meta.c.value == op.value
    writes.connection.execute(delete(schema.meta).where(key, value))


_COUNT = text(
    "UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) "
    "WHERE key = :key AND CAST(value AS BIGINT) >= :seen RETURNING value"
)


def _count_commit(writes: Writes, op: base.CountCommit) -> base.Counted:
    key = COUNTS + op.name
    found = writes.connection.execute(_COUNT, {"key": key, "seen": op.seen}).scalar()
    if found is not None:
        return base.Counted(int(found), went_back=False)
    # Goes on above what was seen: no older state that is put back later may look newer.
    _set_meta(writes, base.SetMeta(key, str(op.seen + 1)))
    return base.Counted(op.seen + 1, went_back=op.seen > 0)


_APPLY: Mapping[type, Callable[[Writes, Any], Any]] = {
    base.AppendEvents: _append_events,
    base.PutExecution: _put_execution,
    base.PutApproval: _put_approval,
    base.PutAttempt: _put_attempt,
    base.AppendOutput: _append_output,
    base.PutAgent: _put_agent,
    base.BumpSessionEpoch: _bump_session_epoch,
    base.OpenSession: _open_session,
    base.ChangeAgent: _change_agent,
    base.CreateJoinToken: _create_join_token,
    base.RedeemJoinToken: _redeem_join_token,
    base.PutAsset: _put_asset,
    base.DeleteAsset: _delete_asset,
    base.SetMeta: _set_meta,
    base.DropMeta: _drop_meta,
    base.CountCommit: _count_commit,
    sharing.TakeLease: lambda writes, op: writes.guards.lease(op),
    sharing.DropLease: lambda writes, op: writes.guards.lease(op),
    sharing.Fence: lambda writes, op: writes.guards.fence(op),
    sharing.TakeHold: lambda writes, op: writes.guards.take(op),
    sharing.FreeHolds: lambda writes, op: writes.guards.free(op),
}
