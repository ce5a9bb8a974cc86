"""Several orchestrators on one store: who lives, who moves what, who holds which lock."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the tables; every open execution is free to be taken by whoever comes first."""
    op.create_table(
        "replicas",
        *_text("replica_id", "address"),
        sa.Column("expire_time", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("replica_id", name="replicas_key"),
    )
    op.create_table(
        "leases",
        *_text("execution_id", "replica_id"),
        sa.PrimaryKeyConstraint("execution_id", name="leases_key"),
    )
    op.create_index("leases_by_replica", "leases", ["replica_id"])
    op.create_table(
        "holds",
        *_text("lock_key"),
        sa.Column("slot", sa.Integer, nullable=False),
        *_text("attempt_id"),
        sa.PrimaryKeyConstraint("lock_key", "slot", name="holds_once"),
    )
    op.create_index("holds_by_attempt", "holds", ["attempt_id"])
    op.create_table(
        "agent_sessions",
        *_text("replica_id", "agent_id"),
        sa.Column("session_epoch", sa.BigInteger, nullable=False),
        *_text("state"),
        sa.PrimaryKeyConstraint("replica_id", "agent_id", name="agent_sessions_key"),
    )


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]
