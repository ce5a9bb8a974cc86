"""Reads that only orchestrators which share a store ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, text

from opsconductor.orchestrator.store.queries import read_events
from opsconductor.orchestrator.store.rows import Chain, Load, Look, ReplicaRow, SessionRow
from opsconductor.orchestrator.store.schema import (
    agent_sessions,
    attempts,
    executions,
    holds,
    leases,
    replicas,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

_REPLICAS = select(replicas.c.replica_id, replicas.c.address, replicas.c.version)
_SESSIONS = select(
    agent_sessions.c.agent_id,
    agent_sessions.c.replica_id,
    agent_sessions.c.session_epoch,
    agent_sessions.c.state,
)
_OF_OTHERS = text("(leases.replica_id IS NULL OR leases.replica_id <> :me)")
_HOLDS = (
    select(holds.c.lock_key, func.count())
    .outerjoin(attempts, attempts.c.attempt_id == holds.c.attempt_id)
    .outerjoin(leases, leases.c.execution_id == attempts.c.execution_id)
    .where(_OF_OTHERS)
    .group_by(holds.c.lock_key)
)
_AT_WORK = (
    select(attempts.c.agent_id, func.count())
    .outerjoin(leases, leases.c.execution_id == attempts.c.execution_id)
    .where(text("attempts.state IN ('granted', 'running')"), _OF_OTHERS)
    .group_by(attempts.c.agent_id)
)


def chain(connection: Connection, execution_id: str, from_seq: int, limit: int) -> Chain:
    """Returns who moves an execution, and its events from a number on."""
    # First the owner: one that changes before the events are read has the fence against it.
    moved_by = owner(connection, execution_id)
    return Chain(moved_by, read_events(connection, execution_id, from_seq, limit))


def look(connection: Connection, replica_id: str) -> Look:
    """Returns what a replica has to see once in a while."""
    mine = (
        select(leases.c.execution_id, executions.c.last_seq)
        .join(executions, executions.c.execution_id == leases.c.execution_id)
        .where(leases.c.replica_id == replica_id, executions.c.open)
    )
    return Look(
        replicas=tuple(ReplicaRow(*row) for row in connection.execute(_REPLICAS)),
        moved={row.execution_id: row.last_seq for row in connection.execute(mine)},
    )


def sessions(connection: Connection) -> tuple[SessionRow, ...]:
    """Returns which agents have a session at which replica."""
    return tuple(SessionRow(*row) for row in connection.execute(_SESSIONS))


def load(connection: Connection, replica_id: str) -> Load:
    """Returns what attempts of executions that a replica does not move hold."""
    others = {"me": replica_id}
    return Load(
        holds={row[0]: row[1] for row in connection.execute(_HOLDS, others)},
        attempts={row[0]: row[1] for row in connection.execute(_AT_WORK, others)},
    )


def owner(connection: Connection, execution_id: str) -> str:
    """Returns which replica moves an execution; empty when none does."""
    query = select(leases.c.replica_id).where(leases.c.execution_id == execution_id)
    return str(connection.execute(query).scalar() or "")
