"""Contracts of the store: the writes it takes, the errors it answers with, and what a database is.

A call of ``Store.commit`` is atomic; calls of many callers share one transaction (group commit) and
return once it is durable. One caller's conflict never fails the others.

The only compare-and-set is the event's key (execution_id, seq): who finds a number taken lost a
race, reloads the chain and decides again. Every other write can be repeated without harm, which is
what makes a connection lost inside COMMIT harmless: the event's key tells whether the transaction
arrived, and a transaction without events is simply sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from opsconductor.orchestrator.store import sharing
from opsconductor.rpc.errors import (
    InvalidTransition,
    OpsConductorError,
    RequestIdReused,
    StoreRegressed,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from opsconductor.orchestrator.store.facts import Changes
    from opsconductor.orchestrator.store.news import News
    from opsconductor.orchestrator.store.rows import (
        AgentRow,
        ApprovalRow,
        AttemptRow,
        ExecutionRow,
        StoredEvent,
    )

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AppendEvents:
    """Appends events with consecutive numbers; SequenceConflict when one is taken. Returns None.

    ChainBroken when the event before the first is not there, or not with the hash that is given.
    """

    execution_id: str
    events: tuple[StoredEvent, ...]
    after: str = ""
    """Hash of the event before the first, as the caller knows it; empty for any."""

    def __post_init__(self) -> None:
        """Refuses, with ValueError, numbers that do not follow each other from 1 up."""
        first = self.events[0].seq if self.events else 0
        if first < 1 or any(item.seq != first + i for i, item in enumerate(self.events)):
            raise ValueError(f"{self.execution_id}: event numbers must follow each other from 1 up")


@dataclass(frozen=True, slots=True)
class PutExecution:
    """Inserts or replaces an execution; RequestIdTaken when another one has its request id."""

    row: ExecutionRow


@dataclass(frozen=True, slots=True)
class PutApproval:
    """Inserts or replaces an approval request. Returns None."""

    row: ApprovalRow


@dataclass(frozen=True, slots=True)
class PutAttempt:
    """Inserts or replaces an attempt. Returns None."""

    row: AttemptRow


@dataclass(frozen=True, slots=True)
class AppendOutput:
    """Appends output bytes at an offset and returns the stored length L afterwards.

    ``offset == L`` appends. ``offset < L``: bytes already stored must be equal (OutputConflict
    otherwise, the stored ones are kept) and the rest is appended. ``offset > L`` stores nothing.
    """

    attempt_id: str
    stream: int
    offset: int
    data: bytes

    def __post_init__(self) -> None:
        """Refuses, with ValueError, an offset before the stream's begin."""
        if self.offset < 0:
            raise ValueError(f"{self.attempt_id}: output offset {self.offset} is negative")


@dataclass(frozen=True, slots=True)
class PutAgent:
    """Inserts or replaces an agent, its session epoch excepted; DuplicateAgent for a taken name."""

    row: AgentRow


@dataclass(frozen=True, slots=True)
class BumpSessionEpoch:
    """Issues and returns the agent's next session epoch, from 1; NotFound for an unknown agent."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Notes what an agent says of itself and issues its next session epoch; returns its AgentRow.

    Whether it drains or is quarantined stays as it is, and so do facts that are not given.
    NotFound for an unknown agent.
    """

    agent_id: str
    journal_id: str
    facts: Changes
    now: datetime
    above: int = 0
    """What the agent has seen: the next epoch is higher, also in a store that went back in time."""


@dataclass(frozen=True, slots=True)
class ChangeAgent:
    """Changes what is given of an agent, and nothing else; NotFound for an unknown one."""

    agent_id: str
    draining: bool | None = None
    quarantined: bool | None = None
    certificate_expire_time: datetime | None = None
    certificate_sha256: str | None = None
    journal_id: str | None = None
    facts: Changes | None = None


@dataclass(frozen=True, slots=True)
class CreateJoinToken:
    """Records a join token by its hash; the token itself is never stored. Returns None."""

    token_hash: str
    tenant: str
    name: str
    segment: str
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class RedeemJoinToken:
    """Uses up a join token and returns its JoinGrant; TokenInvalid when unknown, used or expired.

    The agent that redeemed a token gets the same grant again until the token expires, so that an
    answer lost on the way does not lock it out.
    """

    token_hash: str
    now: datetime
    agent_id: str


@dataclass(frozen=True, slots=True)
class PutAsset:
    """Inserts or replaces an asset. Returns None."""

    tenant: str
    name: str
    type: str
    segment: str
    document: bytes


@dataclass(frozen=True, slots=True)
class DeleteAsset:
    """Removes an asset; returns whether there was one."""

    tenant: str
    name: str


@dataclass(frozen=True, slots=True)
class SetMeta:
    """Sets a value that belongs to the store as a whole. Returns None."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class DropMeta:
    """Removes a value of the store as a whole if it still is this one. Returns None."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class CountCommit:
    """Counts a transaction of an orchestrator's data directory; returns a ``Counted``."""

    name: str
    seen: int
    """The count of the newest one whose end is known."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The number of a transaction, higher than any before it of the same data directory."""

    count: int
    went_back: bool
    """Whether the store did not know the newest transaction before."""


Op: TypeAlias = (
    AppendEvents
    | PutExecution
    | PutApproval
    | PutAttempt
    | AppendOutput
    | PutAgent
    | BumpSessionEpoch
    | CreateJoinToken
    | RedeemJoinToken
    | PutAsset
    | DeleteAsset
    | SetMeta
    | DropMeta
    | CountCommit
    | OpenSession
    | ChangeAgent
    | sharing.JoinReplicas
    | sharing.RenewReplica
    | sharing.LeaveReplicas
    | sharing.ClaimExecutions
    | sharing.TakeLease
    | sharing.DropLease
    | sharing.PassLease
    | sharing.Fence
    | sharing.TakeHold
    | sharing.FreeHolds
    | sharing.PutSessions
)
"""Everything a commit can hold."""

Call: TypeAlias = tuple[Op, ...]
"""The operations of one caller: all of them happen or none."""

Outcome: TypeAlias = list[Any] | OpsConductorError
"""The results of a call, one per operation in its order, or why nothing of it happened."""


class SequenceConflict(InvalidTransition):
    """The event number is taken: another writer was faster."""

    def __init__(self, execution_id: str, seq: int) -> None:
        self.execution_id = execution_id
        self.seq = seq
        super().__init__(
            f"event {seq} of {execution_id} is already written: reload it and decide again",
            metadata={"execution_id": execution_id, "seq": str(seq)},
        )


class ChainBroken(StoreRegressed):
    """The store lost what was written: it is older than what the caller has seen of it."""

    def __init__(self, execution_id: str, seq: int) -> None:
        self.execution_id = execution_id
        self.seq = seq
        super().__init__(
            f"event {seq} of {execution_id} was written, and is not in the store as it was",
            metadata={"execution_id": execution_id, "seq": str(seq)},
        )


class RequestIdTaken(RequestIdReused):
    """An execution with this request id exists; the caller compares the hashes."""

    def __init__(self, execution_id: str, request_hash: str) -> None:
        self.execution_id = execution_id
        self.request_hash = request_hash
        super().__init__(
            f"the request id was used before, for execution {execution_id}",
            metadata={"execution_id": execution_id},
        )


class SchemaTooNew(StoreUnavailable):
    """The database was written by a newer version of OpsConductor."""

    retryable = False


class CommitUnknown(Exception):
    """COMMIT failed: whether it took effect has to be looked up; ``outcomes`` hold if it did."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        self.outcomes = outcomes
        super().__init__("the connection was lost inside COMMIT")


class Writer(Protocol):
    """The writing side of a database."""

    async def commit(self, calls: Sequence[Call]) -> list[Outcome]:
        """Commits calls in one durable transaction and returns the outcome of each.

        Raises:
            StoreUnavailable: Nothing of it may be taken as written.
        """


class Database(Writer, Protocol):
    """One of the databases: takes batches from one writer and answers reads beside it."""

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Runs a query on a connection of its own, never waiting for the writer.

        Raises:
            StoreUnavailable: The database does not answer.
        """

    async def close(self) -> None:
        """Closes every connection."""

    @property
    def shared(self) -> bool:
        """Whether other orchestrators may use it at the same time."""

    def listen(self, heard: Callable[[News], None]) -> None:
        """Calls back with what others say they wrote: a hint that may be late or get lost."""
