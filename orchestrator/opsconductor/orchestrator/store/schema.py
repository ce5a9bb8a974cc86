"""Tables of the store, the same on SQLite and PostgreSQL; the migrations add up to exactly this."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    event,
    text,
)

if TYPE_CHECKING:
    from sqlalchemy import Dialect

HEAD = "0002"
"""Newest migration; a database that stands here is opened without loading Alembic."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(time: datetime) -> int:
    """Returns microseconds since 1970 in UTC; ValueError for a time without a zone."""
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    return (time - _EPOCH) // _MICROSECOND


class Instant(TypeDecorator[datetime]):
    """A moment as microseconds since 1970 in UTC: exact, sortable, alike on both databases."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Turns an aware time into microseconds; ValueError for one without a zone."""
        return None if value is None else microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Turns microseconds into an aware time."""
        return None if value is None else _EPOCH + value * _MICROSECOND


metadata = MetaData()


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _bytes(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


def _integer(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


events = Table(
    "events",
    metadata,
    _text("execution_id"),
    _integer("seq"),
    _text("type"),
    Column("time", Instant, nullable=False),
    _bytes("data"),
    _text("hash"),
    PrimaryKeyConstraint("execution_id", "seq", name="events_once"),
    # One tree instead of two: an append touches the chain's own end only.
    sqlite_with_rowid=False,
)

executions = Table(
    "executions",
    metadata,
    _text("execution_id"),
    _text("tenant"),
    _text("external_id"),
    _text("request_id"),
    _text("request_hash"),
    _text("plan_id"),
    _text("name"),
    _text("state"),
    Column("create_time", Instant, nullable=False),
    Column("start_time", Instant),
    Column("end_time", Instant),
    _integer("last_seq"),
    _text("head_hash"),
    Column("open", Boolean, nullable=False),
    _bytes("summary"),
    _text("search_text"),
    PrimaryKeyConstraint("execution_id", name="executions_key"),
)
Index(
    "executions_request_once",
    executions.c.tenant,
    executions.c.request_id,
    unique=True,
    sqlite_where=text("request_id <> ''"),
    postgresql_where=text("request_id <> ''"),
)
Index(
    "executions_by_external_id",
    executions.c.external_id,
    executions.c.tenant,
    executions.c.create_time,
    executions.c.execution_id,
    sqlite_where=text("external_id <> ''"),
    postgresql_where=text("external_id <> ''"),
)
Index(
    "executions_open",
    executions.c.execution_id,
    sqlite_where=text("open"),
    postgresql_where=text("open"),
)
Index(
    "executions_by_time", executions.c.tenant, executions.c.create_time, executions.c.execution_id
)
Index(
    "executions_by_state",
    executions.c.tenant,
    executions.c.state,
    executions.c.create_time,
    executions.c.execution_id,
)

approvals = Table(
    "approvals",
    metadata,
    _text("approval_id"),
    _text("execution_id"),
    _text("tenant"),
    _text("step_id"),
    _text("state"),
    Column("level", Integer, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant),
    _bytes("data"),
    PrimaryKeyConstraint("approval_id", name="approvals_key"),
)
Index("approvals_by_execution", approvals.c.execution_id)
Index("approvals_by_time", approvals.c.tenant, approvals.c.create_time, approvals.c.approval_id)
Index(
    "approvals_by_state",
    approvals.c.tenant,
    approvals.c.state,
    approvals.c.create_time,
    approvals.c.approval_id,
)

attempts = Table(
    "attempts",
    metadata,
    _text("attempt_id"),
    _text("execution_id"),
    _text("step_id"),
    _text("kind"),
    Column("number", Integer, nullable=False),
    _text("agent_id"),
    _integer("session_epoch"),
    _text("state"),
    Column("start_order", BigInteger),
    _bytes("data"),
    PrimaryKeyConstraint("attempt_id", name="attempts_key"),
)
Index("attempts_by_execution", attempts.c.execution_id)
Index(
    "attempts_open",
    attempts.c.agent_id,
    sqlite_where=text("state IN ('granted', 'running')"),
    postgresql_where=text("state IN ('granted', 'running')"),
)

output = Table(
    "output",
    metadata,
    _text("attempt_id"),
    Column("stream", Integer, nullable=False),
    _integer("offset"),
    _bytes("data"),
    # Bytes are appended at the stream's end only, so two writers that race collide here.
    PrimaryKeyConstraint("attempt_id", "stream", "offset", name="output_once"),
)

agents = Table(
    "agents",
    metadata,
    _text("agent_id"),
    _text("tenant"),
    _text("name"),
    _text("segment"),
    _text("certificate_sha256"),
    Column("certificate_expire_time", Instant),
    _text("journal_id"),
    Column("draining", Boolean, nullable=False),
    Column("quarantined", Boolean, nullable=False),
    _bytes("facts"),
    Column("last_seen_time", Instant),
    Column("create_time", Instant, nullable=False),
    Column("session_epoch", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("agent_id", name="agents_key"),
)
Index("agents_name_once", agents.c.tenant, agents.c.name, unique=True)

join_tokens = Table(
    "join_tokens",
    metadata,
    _text("token_hash"),
    _text("tenant"),
    _text("name"),
    _text("segment"),
    Column("expire_time", Instant, nullable=False),
    Column("agent_id", Text),
    PrimaryKeyConstraint("token_hash", name="join_tokens_key"),
)

assets = Table(
    "assets",
    metadata,
    _text("tenant"),
    _text("name"),
    _text("type"),
    _text("segment"),
    _bytes("document"),
    PrimaryKeyConstraint("tenant", "name", name="assets_key"),
)

meta = Table(
    "meta",
    metadata,
    _text("key"),
    _text("value"),
    PrimaryKeyConstraint("key", name="meta_key"),
)

replicas = Table(
    "replicas",
    metadata,
    _text("replica_id"),
    _text("address"),
    Column("expire_time", Instant, nullable=False),
    _integer("version"),
    PrimaryKeyConstraint("replica_id", name="replicas_key"),
)

leases = Table(
    "leases",
    metadata,
    _text("execution_id"),
    _text("replica_id"),
    PrimaryKeyConstraint("execution_id", name="leases_key"),
)
Index("leases_by_replica", leases.c.replica_id)

holds = Table(
    "holds",
    metadata,
    _text("lock_key"),
    Column("slot", Integer, nullable=False),
    _text("attempt_id"),
    # Two that take the same place of a lock collide here.
    PrimaryKeyConstraint("lock_key", "slot", name="holds_once"),
)
Index("holds_by_attempt", holds.c.attempt_id)

agent_sessions = Table(
    "agent_sessions",
    metadata,
    _text("replica_id"),
    _text("agent_id"),
    _integer("session_epoch"),
    _text("state"),
    PrimaryKeyConstraint("replica_id", "agent_id", name="agent_sessions_key"),
)

SQLITE_GUARD = """
CREATE TRIGGER events_never_change BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events never change'); END
"""
POSTGRES_REFUSAL = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% never change', TG_TABLE_NAME; END $$
"""
POSTGRES_GUARD = """
CREATE TRIGGER events_never_change BEFORE UPDATE ON events
FOR EACH ROW EXECUTE FUNCTION refuse_change()
"""

for _dialect, _statement in (
    ("sqlite", SQLITE_GUARD),
    ("postgresql", POSTGRES_REFUSAL.replace("%", "%%")),
    ("postgresql", POSTGRES_GUARD),
):
    _ddl: DDL = DDL(_statement)  # type: ignore[no-untyped-call]
    event.listen(events, "after_create", _ddl.execute_if(dialect=_dialect))
