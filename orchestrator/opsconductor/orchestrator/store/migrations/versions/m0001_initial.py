"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

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


def upgrade() -> None:
    """Creates every table."""
    _create_log()
    _create_executions()
    _create_approvals()
    _create_attempts()
    _create_agents()
    _create_inventory_and_meta()


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _integer(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _partial_index(name: str, table: str, columns: list[str], where: str, *, unique: bool) -> None:
    condition = sa.text(where)
    op.create_index(
        name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition
    )


def _create_log() -> None:
    op.create_table(
        "events",
        *_text("execution_id"),
        _integer("seq"),
        *_text("type"),
        _integer("time"),
        sa.Column("data", sa.LargeBinary, nullable=False),
        *_text("hash"),
        sa.PrimaryKeyConstraint("execution_id", "seq", name="events_once"),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(SQLITE_GUARD)
    else:
        op.execute(POSTGRES_REFUSAL)
        op.execute(POSTGRES_GUARD)


def _create_executions() -> None:
    op.create_table(
        "executions",
        *_text("execution_id", "tenant", "external_id", "request_id", "request_hash"),
        *_text("plan_id", "name", "state"),
        _integer("create_time"),
        _integer("start_time", nullable=True),
        _integer("end_time", nullable=True),
        _integer("last_seq"),
        *_text("head_hash"),
        sa.Column("open", sa.Boolean, nullable=False),
        sa.Column("summary", sa.LargeBinary, nullable=False),
        *_text("search_text"),
        sa.PrimaryKeyConstraint("execution_id", name="executions_key"),
    )
    _partial_index(
        "executions_request_once",
        "executions",
        ["tenant", "request_id"],
        "request_id <> ''",
        unique=True,
    )
    _partial_index(
        "executions_by_external_id",
        "executions",
        ["external_id", "tenant", "create_time", "execution_id"],
        "external_id <> ''",
        unique=False,
    )
    _partial_index("executions_open", "executions", ["execution_id"], "open", unique=False)
    op.create_index("executions_by_time", "executions", ["tenant", "create_time", "execution_id"])
    op.create_index(
        "executions_by_state", "executions", ["tenant", "state", "create_time", "execution_id"]
    )


def _create_approvals() -> None:
    op.create_table(
        "approvals",
        *_text("approval_id", "execution_id", "tenant", "step_id", "state"),
        sa.Column("level", sa.Integer, nullable=False),
        _integer("create_time"),
        _integer("expire_time", nullable=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("approval_id", name="approvals_key"),
    )
    op.create_index("approvals_by_execution", "approvals", ["execution_id"])
    op.create_index("approvals_by_time", "approvals", ["tenant", "create_time", "approval_id"])
    op.create_index(
        "approvals_by_state", "approvals", ["tenant", "state", "create_time", "approval_id"]
    )


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        *_text("attempt_id", "execution_id", "step_id", "kind"),
        sa.Column("number", sa.Integer, nullable=False),
        *_text("agent_id"),
        _integer("session_epoch"),
        *_text("state"),
        _integer("start_order", nullable=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", name="attempts_key"),
    )
    op.create_index("attempts_by_execution", "attempts", ["execution_id"])
    _partial_index(
        "attempts_open", "attempts", ["agent_id"], "state IN ('granted', 'running')", unique=False
    )
    op.create_table(
        "output",
        *_text("attempt_id"),
        sa.Column("stream", sa.Integer, nullable=False),
        _integer("offset"),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "stream", "offset", name="output_once"),
    )


def _create_agents() -> None:
    op.create_table(
        "agents",
        *_text("agent_id", "tenant", "name", "segment", "certificate_sha256"),
        _integer("certificate_expire_time", nullable=True),
        *_text("journal_id"),
        sa.Column("draining", sa.Boolean, nullable=False),
        sa.Column("quarantined", sa.Boolean, nullable=False),
        sa.Column("facts", sa.LargeBinary, nullable=False),
        _integer("last_seen_time", nullable=True),
        _integer("create_time"),
        sa.Column("session_epoch", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("agent_id", name="agents_key"),
    )
    op.create_index("agents_name_once", "agents", ["tenant", "name"], unique=True)
    op.create_table(
        "join_tokens",
        *_text("token_hash", "tenant", "name", "segment"),
        _integer("expire_time"),
        sa.Column("agent_id", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("token_hash", name="join_tokens_key"),
    )


def _create_inventory_and_meta() -> None:
    op.create_table(
        "assets",
        *_text("tenant", "name", "type", "segment"),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", name="assets_key"),
    )
    op.create_table(
        "meta",
        *_text("key", "value"),
        sa.PrimaryKeyConstraint("key", name="meta_key"),
    )
