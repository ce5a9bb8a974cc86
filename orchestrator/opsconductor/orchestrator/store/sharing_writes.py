"""What the operations of ``sharing`` do to the tables."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, insert, literal, select, text, update

from opsconductor.orchestrator.store import sharing
from opsconductor.orchestrator.store.clock import DatabaseNow
from opsconductor.orchestrator.store.schema import agent_sessions, holds, leases, replicas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import ColumnElement, Connection

_JOIN = text(
    "INSERT INTO replicas (replica_id, address, expire_time, version) "
    "VALUES (:replica_id, :address, 0, 0) ON CONFLICT (replica_id) DO NOTHING"
)
_CLAIM = text(
    """
    INSERT INTO leases (execution_id, replica_id)
    SELECT e.execution_id, :replica_id
    FROM executions e
    LEFT JOIN leases l ON l.execution_id = e.execution_id
    LEFT JOIN replicas r ON r.replica_id = l.replica_id
    WHERE e.open AND r.replica_id IS NULL
    ORDER BY e.execution_id LIMIT :count
    ON CONFLICT (execution_id) DO UPDATE SET replica_id = excluded.replica_id
    WHERE NOT EXISTS (SELECT 1 FROM replicas r WHERE r.replica_id = leases.replica_id)
    RETURNING execution_id
    """
)
_TAKE_LEASE = text(
    "INSERT INTO leases (execution_id, replica_id) VALUES (:execution_id, :replica_id) "
    "ON CONFLICT (execution_id) DO UPDATE SET replica_id = excluded.replica_id"
)
_PASS_LEASE = text(
    "UPDATE leases SET replica_id = :to "
    "WHERE execution_id = :execution_id AND replica_id = :replica_id "
    "AND EXISTS (SELECT 1 FROM replicas WHERE replica_id = :to)"
)
_PUT_SESSION = text(
    "INSERT INTO agent_sessions (replica_id, agent_id, session_epoch, state) "
    "VALUES (:replica_id, :agent_id, :session_epoch, :state) "
    "ON CONFLICT (replica_id, agent_id) DO UPDATE "
    "SET session_epoch = excluded.session_epoch, state = excluded.state"
)
_OWNERS = (
    select(leases.c.execution_id, leases.c.replica_id)
    .where(leases.c.execution_id.in_(bindparam("ids", expanding=True)))
    .order_by(leases.c.execution_id)
    # Whoever takes an execution over waits until what was fenced is written.
    .with_for_update()
)
_DROP_LEASES = delete(leases).where(leases.c.execution_id.in_(bindparam("ids", expanding=True)))
_FREE = delete(holds).where(holds.c.attempt_id.in_(bindparam("ids", expanding=True)))
_HELD = select(holds.c.lock_key, holds.c.slot, holds.c.attempt_id).where(
    holds.c.lock_key.in_(bindparam("keys", expanding=True))
)


class Guards:
    """The fences and locks of one transaction, checked and written before anything else."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._fences: dict[str, str] = {}
        self._freed: list[str] = []
        self._wanted: list[sharing.TakeHold] = []
        self._leases: dict[str, str] = {}

    def lease(self, op: sharing.TakeLease | sharing.DropLease) -> None:
        """Gives an execution to a replica, or to nobody; the last word counts.

        Not before the execution's own row is written: between an end that is not and a lease that
        is gone, a claim in the same transaction would find an execution that nobody moves.
        """
        self._leases[op.execution_id] = getattr(op, "replica_id", "")

    def fence(self, op: sharing.Fence) -> None:
        """Asks that a replica moves an execution."""
        self._fences[op.execution_id] = op.replica_id

    def free(self, op: sharing.FreeHolds) -> None:
        """Gives back an attempt's locks."""
        self._freed.append(op.attempt_id)

    def take(self, op: sharing.TakeHold) -> None:
        """Asks for a place at a lock; what the transaction gives back is free for it."""
        self._wanted.append(op)

    def flush(self) -> None:
        """Raises OwnerLost or LockTaken for the first that cannot be had, else writes."""
        if self._fences:
            self._check_fences()
        if self._freed:
            self._connection.execute(_FREE, {"ids": self._freed})
            self._freed = []
        if self._wanted:
            self._take_all()
        if self._leases:
            self._write_leases()

    def _write_leases(self) -> None:
        taken: list[dict[str, str]] = []
        dropped: list[str] = []
        # By key: writers that meet in the same rows then wait for each other in one order.
        for execution_id, replica_id in sorted(self._leases.items()):
            if replica_id:
                taken.append({"execution_id": execution_id, "replica_id": replica_id})
            else:
                dropped.append(execution_id)
        if taken:
            self._connection.execute(_TAKE_LEASE, taken)
        if dropped:
            self._connection.execute(_DROP_LEASES, {"ids": dropped})
        self._leases = {}

    def _check_fences(self) -> None:
        found = self._connection.execute(_OWNERS, {"ids": list(self._fences)})
        owners = {row.execution_id: row.replica_id for row in found}
        for execution_id, replica_id in self._fences.items():
            if owners.get(execution_id) != replica_id:
                raise sharing.OwnerLost(execution_id)
        self._fences = {}

    def _take_all(self) -> None:
        keys = sorted({op.lock_key for op in self._wanted})
        held: dict[str, dict[int, str]] = {key: {} for key in keys}
        for row in self._connection.execute(_HELD, {"keys": keys}):
            held[row.lock_key][row.slot] = row.attempt_id
        rows = []
        for op in sorted(self._wanted, key=lambda op: op.lock_key):
            places = held[op.lock_key]
            if op.attempt_id in places.values():
                continue
            if len(places) >= op.room:
                raise sharing.LockTaken(op.lock_key)
            slot = next(n for n in count() if n not in places)
            places[slot] = op.attempt_id
            rows.append({"lock_key": op.lock_key, "slot": slot, "attempt_id": op.attempt_id})
        if rows:
            self._connection.execute(insert(holds), rows)
        self._wanted = []


def _join(connection: Connection, op: sharing.JoinReplicas) -> None:
    if op.instead and op.address:
        _remove(connection, replicas.c.address == op.address)
    connection.execute(_JOIN, {"replica_id": op.replica_id, "address": op.address})
    _renew(connection, sharing.RenewReplica(op.replica_id, op.lease))


def _renew(connection: Connection, op: sharing.RenewReplica) -> bool:
    # A plain number beside the database's: a moment of ours would be one of another clock.
    lease = literal(round(op.lease.total_seconds() * 1_000_000))
    found = connection.execute(
        update(replicas)
        .where(replicas.c.replica_id == op.replica_id)
        .values(expire_time=DatabaseNow() + lease, version=op.version)
    )
    return found.rowcount > 0


def _leave(connection: Connection, op: sharing.LeaveReplicas) -> None:
    _remove(connection, replicas.c.replica_id == op.replica_id)


def _claim(connection: Connection, op: sharing.ClaimExecutions) -> tuple[str, ...]:
    if op.lapsed:
        _remove(connection, replicas.c.expire_time <= DatabaseNow())
    own = select(replicas.c.replica_id).where(replicas.c.replica_id == op.replica_id)
    if connection.execute(own).first() is None:
        return ()
    found = connection.execute(_CLAIM, {"replica_id": op.replica_id, "count": op.limit})
    return tuple(sorted(found.scalars()))


def _pass_lease(connection: Connection, op: sharing.PassLease) -> bool:
    names = {"execution_id": op.execution_id, "replica_id": op.replica_id, "to": op.to}
    return connection.execute(_PASS_LEASE, names).rowcount > 0


def _put_sessions(connection: Connection, op: sharing.PutSessions) -> None:
    if op.closed:
        connection.execute(
            delete(agent_sessions).where(
                agent_sessions.c.replica_id == op.replica_id,
                agent_sessions.c.agent_id.in_(op.closed),
            )
        )
    if op.opened:
        connection.execute(
            _PUT_SESSION,
            [
                {
                    "replica_id": op.replica_id,
                    "agent_id": row.agent_id,
                    "session_epoch": row.session_epoch,
                    "state": row.state,
                }
                for row in op.opened
            ],
        )


def _remove(connection: Connection, condition: ColumnElement[bool]) -> None:
    gone = connection.execute(
        delete(replicas).where(condition).returning(replicas.c.replica_id)
    ).scalars()
    if names := list(gone):
        connection.execute(delete(agent_sessions).where(agent_sessions.c.replica_id.in_(names)))


AT_ONCE: Mapping[type, Callable[[Connection, Any], Any]] = {
    sharing.JoinReplicas: _join,
    sharing.RenewReplica: _renew,
    sharing.LeaveReplicas: _leave,
    sharing.ClaimExecutions: _claim,
    sharing.PassLease: _pass_lease,
    sharing.PutSessions: _put_sessions,
}
"""What runs at once, in its order."""
