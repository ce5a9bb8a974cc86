"""Rows of the store as frozen values; JSON travels as bytes, times are aware UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

OPEN_ATTEMPT_STATES = ("granted", "running")
"""States in which an agent owes a report: what its desired set is made of."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event of a chain; ``hash`` covers the event and the hash before it."""

    seq: int
    """From 1, without gaps; with the execution's id the key of the event."""
    type: str
    time: datetime
    data: bytes
    hash: str


@dataclass(frozen=True, slots=True)
class ExecutionRow:
    """Where one execution stands: the projection that lists and queries read."""

    execution_id: str
    tenant: str
    external_id: str
    """The caller's own id, empty when none; not necessarily unique."""
    request_id: str
    """The caller's key of the submission, unique per tenant unless empty."""
    request_hash: str
    plan_id: str
    name: str
    state: str
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    last_seq: int
    head_hash: str
    open: bool
    """Whether something is still to come; open executions are reloaded at start."""
    summary: bytes
    search_text: str
    """Text that the list's free search looks into; kept in lower case."""


@dataclass(frozen=True, slots=True)
class ApprovalRow:
    """One approval request."""

    approval_id: str
    execution_id: str
    tenant: str
    step_id: str
    """Empty when the whole plan is asked for."""
    state: str
    level: int
    create_time: datetime
    expire_time: datetime | None
    data: bytes


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One try of a step by one agent."""

    attempt_id: str
    execution_id: str
    step_id: str
    kind: str
    number: int
    agent_id: str
    session_epoch: int
    state: str
    start_order: int | None
    """Place among the execution's grants, which rollback reverses."""
    data: bytes


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One enrolled agent."""

    agent_id: str
    tenant: str
    name: str
    """Unique per tenant."""
    segment: str
    certificate_sha256: str
    certificate_expire_time: datetime | None
    journal_id: str
    draining: bool
    quarantined: bool
    facts: bytes
    last_seen_time: datetime | None
    create_time: datetime
    session_epoch: int = 0
    """Newest epoch issued; filled by reads and never written by PutAgent."""


@dataclass(frozen=True, slots=True)
class AssetRow:
    """One asset of the inventory."""

    tenant: str
    name: str
    type: str
    segment: str
    document: bytes


@dataclass(frozen=True, slots=True)
class JoinGrant:
    """What a redeemed join token entitles an agent to be."""

    tenant: str
    name: str
    segment: str


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """Bytes of an output stream and where they begin."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Chain:
    """Events of an execution, and the replica that moves it; empty when none does."""

    owner: str
    events: tuple[StoredEvent, ...]


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """One orchestrator of those that share the store."""

    replica_id: str
    address: str
    """Where agents and clients reach it, host:port."""
    version: int
    """Grows whenever it changed what all replicas keep in memory."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """An agent's session at one replica."""

    agent_id: str
    replica_id: str
    session_epoch: int
    state: str
    """A word of the session's table."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a replica sees when it looks around."""

    replicas: tuple[ReplicaRow, ...]
    moved: Mapping[str, int]
    """Last event number of each open execution that it moves."""


@dataclass(frozen=True, slots=True)
class Load:
    """What attempts hold that other replicas granted."""

    holds: Mapping[str, int]
    """Holders by lock."""
    attempts: Mapping[str, int]
    """Live attempts by agent."""
