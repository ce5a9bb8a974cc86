"""What orchestrators on one store agree on: who lives, who moves what, who holds which lock.

A replica is one orchestrator process. It lives as long as its row is there; whoever finds a row
that was not renewed in time, by the database's own clock, may remove it. A lease names the replica
that moves an open execution; it counts only while that replica's row is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import InvalidTransition

if TYPE_CHECKING:
    from datetime import timedelta

    from opsconductor.orchestrator.store.rows import SessionRow


@dataclass(frozen=True, slots=True)
class JoinReplicas:
    """Adds a replica. Returns None.

    ``instead`` removes others with the same address: at its start a process that listens there
    knows that whoever did before is gone.
    """

    replica_id: str
    address: str
    lease: timedelta
    instead: bool = False


@dataclass(frozen=True, slots=True)
class RenewReplica:
    """Lets a replica live on for its lease; returns False when it was removed meanwhile.

    ``version`` tells others when to read again what all keep in memory.
    """

    replica_id: str
    lease: timedelta
    version: int = 0


@dataclass(frozen=True, slots=True)
class LeaveReplicas:
    """Removes a replica and its agents' sessions: what it moved is free. Returns None."""

    replica_id: str


@dataclass(frozen=True, slots=True)
class ClaimExecutions:
    """Gives a living replica open executions that no living one moves; returns their ids.

    ``lapsed`` first removes replicas that did not renew in time.
    """

    replica_id: str
    limit: int
    lapsed: bool = True


@dataclass(frozen=True, slots=True)
class TakeLease:
    """Lets a replica move an execution that nobody does. Returns None."""

    execution_id: str
    replica_id: str


@dataclass(frozen=True, slots=True)
class DropLease:
    """Ends the lease of an execution, whoever has it. Returns None."""

    execution_id: str


@dataclass(frozen=True, slots=True)
class PassLease:
    """Hands an execution to another living replica; returns whether that happened."""

    execution_id: str
    replica_id: str
    to: str


@dataclass(frozen=True, slots=True)
class Fence:
    """Lets the call happen only while a replica moves an execution; OwnerLost otherwise."""

    execution_id: str
    replica_id: str


@dataclass(frozen=True, slots=True)
class TakeHold:
    """Takes a place at a lock for an attempt; LockTaken when all are taken. Returns None."""

    lock_key: str
    room: int
    attempt_id: str


@dataclass(frozen=True, slots=True)
class FreeHolds:
    """Gives back every lock of an attempt. Returns None."""

    attempt_id: str


@dataclass(frozen=True, slots=True)
class PutSessions:
    """Tells which agents a replica talks with: opened or changed, and closed. Returns None."""

    replica_id: str
    opened: tuple[SessionRow, ...] = ()
    closed: tuple[str, ...] = ()


class OwnerLost(InvalidTransition):
    """Another orchestrator moves the execution."""

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        super().__init__(
            f"another orchestrator moves {execution_id}: reload it and decide again",
            metadata={"execution_id": execution_id},
        )


class LockTaken(InvalidTransition):
    """The lock is held by as many attempts as it allows."""

    def __init__(self, lock_key: str) -> None:
        self.lock_key = lock_key
        super().__init__(f"lock {lock_key} is taken", metadata={"lock_key": lock_key})
