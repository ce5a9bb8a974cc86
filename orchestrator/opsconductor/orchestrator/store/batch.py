"""One batch, one transaction: the synchronous write path that both databases share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from opsconductor.orchestrator.store import base, schema, sharing
from opsconductor.orchestrator.store.faults import brief, is_fault_of_the_data
from opsconductor.orchestrator.store.writes import Writes
from opsconductor.rpc import failpoints
from opsconductor.rpc.errors import (
    DuplicateAgent,
    InvalidArgument,
    OpsConductorError,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from opsconductor.orchestrator.store.output import Stream

Lengths: TypeAlias = "dict[Stream, int]"
Tell: TypeAlias = "Callable[[Connection, Sequence[base.Call], Sequence[base.Outcome]], None]"

_LENGTHS_KEPT = 50_000


class _Violation(Exception):
    """An operation violated a constraint."""

    def __init__(self, op: base.Op) -> None:
        self.op = op
        super().__init__(type(op).__name__)


def commit_batch(
    connection: Connection,
    calls: Sequence[base.Call],
    lengths: Lengths,
    tell: Tell = lambda *_: None,
) -> list[base.Outcome]:
    """Commits calls in one transaction and returns the outcome of each.

    All are written together first. When one of them cannot be, the transaction is undone and the
    calls are repeated one by one, each under a savepoint, so that only the guilty ones fail.

    Args:
        connection: A connection without a transaction.
        calls: What to write.
        lengths: Output lengths known from earlier batches; kept up to date here.
        tell: Called last in the transaction, with the calls and what became of each.

    Raises:
        CommitUnknown: COMMIT itself failed.
    """
    try:
        outcomes, known = _together(connection, calls, lengths)
    except Exception as exc:
        connection.rollback()
        lengths.clear()
        if not is_fault_of_the_data(exc):
            raise
        outcomes, known = [_alone(connection, call) for call in calls], {}
    tell(connection, calls, outcomes)
    failpoints.hit("store.before_commit")
    try:
        connection.commit()
    except Exception as exc:
        lengths.clear()
        raise base.CommitUnknown(outcomes) from exc
    failpoints.hit("store.after_commit")
    if len(lengths) > _LENGTHS_KEPT:
        lengths.clear()
    lengths.update(known)
    return outcomes


def has_arrived(
    connection: Connection, calls: Sequence[base.Call], outcomes: Sequence[base.Outcome]
) -> bool:
    """Looks up by an event's key whether a transaction with an unknown end was committed.

    False for one without events: every other operation can be repeated.
    """
    for call, outcome in zip(calls, outcomes, strict=True):
        for op in call:
            if isinstance(op, base.AppendEvents) and isinstance(outcome, list):
                key = (op.execution_id, op.events[0].seq)
                return _hash_at(connection, *key) == op.events[0].hash
    return False


def _together(
    connection: Connection, calls: Sequence[base.Call], lengths: Lengths
) -> tuple[list[base.Outcome], Lengths]:
    writes = Writes(connection, lengths)
    outcomes: list[base.Outcome] = [[writes.apply(op) for op in call] for call in calls]
    writes.flush()
    return outcomes, writes.output.lengths()


def _alone(connection: Connection, call: base.Call) -> base.Outcome:
    try:
        with connection.begin_nested():
            return [_one(connection, op) for op in call]
    except _Violation as exc:
        return _conflict(connection, exc.op)
    except OpsConductorError as exc:
        return exc
    except Exception as exc:
        if not is_fault_of_the_data(exc):
            raise
        return InvalidArgument(f"the store cannot hold this: {brief(exc)}")


def _one(connection: Connection, op: base.Op) -> object:
    writes = Writes(connection, {})
    try:
        result = writes.apply(op)
        writes.flush()
    except IntegrityError as exc:
        raise _Violation(op) from exc
    return result


def _conflict(connection: Connection, op: base.Op) -> OpsConductorError:
    """Says in the caller's words which constraint an operation met."""
    if isinstance(op, base.AppendEvents):
        return base.SequenceConflict(op.execution_id, _first_taken(connection, op))
    if isinstance(op, base.PutExecution):
        executions = schema.executions.c
        taken = connection.execute(
            select(executions.execution_id, executions.request_hash).where(
                executions.tenant == op.row.tenant, executions.request_id == op.row.request_id
            )
        ).first()
        if taken is not None:
            return base.RequestIdTaken(*taken)
    if isinstance(op, sharing.TakeHold):
        return sharing.LockTaken(op.lock_key)
    if isinstance(op, base.PutAgent):
        return DuplicateAgent(f"there is another agent named {op.row.name}")
    return StoreUnavailable(f"{type(op).__name__} met another writer; try again")


def _first_taken(connection: Connection, op: base.AppendEvents) -> int:
    events = schema.events.c
    taken = connection.execute(
        select(func.min(events.seq)).where(
            events.execution_id == op.execution_id, events.seq >= op.events[0].seq
        )
    ).scalar()
    return int(taken or op.events[0].seq)


def _hash_at(connection: Connection, execution_id: str, seq: int) -> str | None:
    events = schema.events.c
    return connection.execute(
        select(events.hash).where(events.execution_id == execution_id, events.seq == seq)
    ).scalar()
