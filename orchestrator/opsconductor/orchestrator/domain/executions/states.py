"""State tables: every state machine is data, and every edge anyone may take stands here.

ARCHITECTURE.md's diagrams are generated from these tables (``make docs``).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from opsconductor.rpc.errors import InvalidTransition

if TYPE_CHECKING:
    from collections.abc import Mapping


class ExecutionState(StrEnum):
    """Where one run of a plan stands."""

    PENDING = "pending"
    APPROVAL_REQUIRED = "approval_required"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    ATTENTION_REQUIRED = "attention_required"
    CANCELLING = "cancelling"
    ROLLING_BACK = "rolling_back"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    CANCELLED = "cancelled"
    CANCEL_UNVERIFIED = "cancel_unverified"
    REJECTED = "rejected"
    EXPIRED = "expired"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"


class StepState(StrEnum):
    """Where a step stands."""

    PENDING = "pending"
    APPROVAL_REQUIRED = "approval_required"
    QUEUED = "queued"
    RUNNING = "running"
    SKIPPED = "skipped"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    CANCELLED = "cancelled"
    CANCEL_UNVERIFIED = "cancel_unverified"
    UNKNOWN = "unknown"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"


class AttemptState(StrEnum):
    """Where one try of a step stands."""

    GRANTED = "granted"
    RUNNING = "running"
    NOT_STARTED = "not_started"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    CANCELLED = "cancelled"
    CANCEL_UNVERIFIED = "cancel_unverified"
    UNKNOWN = "unknown"


class ApprovalState(StrEnum):
    """Where an approval request stands."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    CHANGES_REQUESTED = "changes_requested"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"


class SessionState(StrEnum):
    """Where an agent's session stands."""

    OFFLINE = "offline"
    ONLINE = "online"
    SUSPECT = "suspect"
    DRAINING = "draining"
    QUARANTINED = "quarantined"


_E = ExecutionState
_FINISHED = frozenset({_E.COMPLETED, _E.FAILED, _E.TIMED_OUT, _E.UNREACHABLE})

EXECUTION_TRANSITIONS: Mapping[ExecutionState, frozenset[ExecutionState]] = {
    _E.PENDING: frozenset({_E.APPROVAL_REQUIRED, _E.QUEUED, _E.CANCELLING}),
    _E.APPROVAL_REQUIRED: frozenset(
        {
            _E.QUEUED,
            _E.RUNNING,
            _E.REJECTED,
            _E.EXPIRED,
            _E.CANCELLING,
            _E.ROLLING_BACK,
            _E.ATTENTION_REQUIRED,
        }
    )
    | _FINISHED,
    _E.QUEUED: frozenset(
        {
            _E.RUNNING,
            _E.APPROVAL_REQUIRED,
            _E.ATTENTION_REQUIRED,
            _E.PAUSED,
            _E.CANCELLING,
            _E.REJECTED,
            _E.EXPIRED,
        }
    )
    | _FINISHED,
    _E.RUNNING: frozenset(
        {
            _E.PAUSED,
            _E.APPROVAL_REQUIRED,
            _E.ATTENTION_REQUIRED,
            _E.CANCELLING,
            _E.ROLLING_BACK,
            _E.REJECTED,
            _E.EXPIRED,
        }
    )
    | _FINISHED,
    _E.PAUSED: frozenset({_E.RUNNING, _E.QUEUED, _E.CANCELLING}),
    _E.ATTENTION_REQUIRED: frozenset({_E.RUNNING, _E.QUEUED, _E.CANCELLING, _E.ROLLING_BACK}),
    _E.CANCELLING: frozenset({_E.CANCELLED, _E.CANCEL_UNVERIFIED}),
    _E.ROLLING_BACK: frozenset(
        {_E.ROLLED_BACK, _E.ROLLBACK_FAILED, _E.ATTENTION_REQUIRED, _E.CANCELLING}
    ),
    # A finished execution can be rolled back from history.
    _E.COMPLETED: frozenset({_E.ROLLING_BACK}),
    _E.FAILED: frozenset({_E.ROLLING_BACK}),
    _E.TIMED_OUT: frozenset({_E.ROLLING_BACK}),
    _E.UNREACHABLE: frozenset({_E.ROLLING_BACK}),
    _E.CANCELLED: frozenset({_E.ROLLING_BACK}),
    _E.CANCEL_UNVERIFIED: frozenset({_E.ROLLING_BACK}),
    _E.REJECTED: frozenset(),
    _E.EXPIRED: frozenset(),
    _E.ROLLED_BACK: frozenset(),
    _E.ROLLBACK_FAILED: frozenset({_E.ROLLING_BACK}),
}
"""Edges of an execution."""

EXECUTION_OPEN: frozenset[ExecutionState] = frozenset(
    {
        _E.PENDING,
        _E.APPROVAL_REQUIRED,
        _E.QUEUED,
        _E.RUNNING,
        _E.PAUSED,
        _E.ATTENTION_REQUIRED,
        _E.CANCELLING,
        _E.ROLLING_BACK,
    }
)
"""States in which something is still to come; the others are final unless a person rolls back."""

_S = StepState
_STEP_ENDS = frozenset(
    {
        _S.COMPLETED,
        _S.FAILED,
        _S.TIMED_OUT,
        _S.UNREACHABLE,
        _S.CANCELLED,
        _S.CANCEL_UNVERIFIED,
        _S.UNKNOWN,
    }
)

STEP_TRANSITIONS: Mapping[StepState, frozenset[StepState]] = {
    _S.PENDING: frozenset({_S.QUEUED, _S.APPROVAL_REQUIRED, _S.SKIPPED, _S.FAILED}),
    _S.APPROVAL_REQUIRED: frozenset({_S.QUEUED, _S.SKIPPED}),
    # FAILED and UNREACHABLE without a grant: the last attempt ended so and no retry is left.
    _S.QUEUED: frozenset({_S.RUNNING, _S.SKIPPED, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.QUEUED}) | _STEP_ENDS,
    _S.UNKNOWN: frozenset({_S.COMPLETED, _S.FAILED, _S.QUEUED, _S.CANCEL_UNVERIFIED}),
    _S.COMPLETED: frozenset({_S.ROLLING_BACK}),
    _S.FAILED: frozenset({_S.ROLLING_BACK}),
    _S.TIMED_OUT: frozenset({_S.ROLLING_BACK}),
    _S.UNREACHABLE: frozenset({_S.ROLLING_BACK}),
    _S.CANCELLED: frozenset({_S.ROLLING_BACK}),
    _S.CANCEL_UNVERIFIED: frozenset({_S.ROLLING_BACK}),
    _S.SKIPPED: frozenset(),
    _S.ROLLING_BACK: frozenset({_S.ROLLED_BACK, _S.ROLLBACK_FAILED}),
    _S.ROLLED_BACK: frozenset(),
    _S.ROLLBACK_FAILED: frozenset({_S.ROLLING_BACK}),
}
"""Edges of a step. A retry is a new attempt of a step that is queued again."""

STEP_ENDED: frozenset[StepState] = (_STEP_ENDS - {_S.UNKNOWN}) | {
    _S.SKIPPED,
    _S.ROLLING_BACK,
    _S.ROLLED_BACK,
    _S.ROLLBACK_FAILED,
}
"""States after which a step does not run forward any more (UNKNOWN waits for a person)."""

_A = AttemptState
_ATTEMPT_ENDS = frozenset(
    {
        _A.NOT_STARTED,
        _A.COMPLETED,
        _A.FAILED,
        _A.TIMED_OUT,
        _A.UNREACHABLE,
        _A.CANCELLED,
        _A.CANCEL_UNVERIFIED,
        _A.UNKNOWN,
    }
)

ATTEMPT_TRANSITIONS: Mapping[AttemptState, frozenset[AttemptState]] = {
    # The report of the start and of the end can arrive as one.
    _A.GRANTED: frozenset({_A.RUNNING}) | _ATTEMPT_ENDS,
    _A.RUNNING: _ATTEMPT_ENDS - {_A.NOT_STARTED},
    **{state: frozenset() for state in AttemptState if state in _ATTEMPT_ENDS},
}
"""Edges of an attempt."""

_R = ApprovalState

APPROVAL_TRANSITIONS: Mapping[ApprovalState, frozenset[ApprovalState]] = {
    _R.PENDING: frozenset(
        {
            _R.APPROVED,
            _R.REJECTED,
            _R.CHANGES_REQUESTED,
            _R.EXPIRED,
            _R.SUPERSEDED,
            _R.REVOKED,
        }
    ),
    _R.CHANGES_REQUESTED: frozenset({_R.SUPERSEDED, _R.REVOKED}),
    _R.APPROVED: frozenset({_R.SUPERSEDED, _R.REVOKED}),
    _R.REJECTED: frozenset(),
    _R.EXPIRED: frozenset(),
    _R.SUPERSEDED: frozenset(),
    _R.REVOKED: frozenset(),
}
"""Edges of an approval request."""

_N = SessionState

SESSION_TRANSITIONS: Mapping[SessionState, frozenset[SessionState]] = {
    _N.OFFLINE: frozenset({_N.ONLINE, _N.DRAINING, _N.QUARANTINED}),
    _N.ONLINE: frozenset({_N.SUSPECT, _N.OFFLINE, _N.DRAINING, _N.QUARANTINED}),
    _N.SUSPECT: frozenset({_N.ONLINE, _N.OFFLINE, _N.QUARANTINED}),
    _N.DRAINING: frozenset({_N.ONLINE, _N.OFFLINE, _N.QUARANTINED}),
    _N.QUARANTINED: frozenset({_N.OFFLINE}),
}
"""Edges of an agent's session."""

TABLES: Mapping[str, Mapping[StrEnum, frozenset[StrEnum]]] = {
    "execution": EXECUTION_TRANSITIONS,  # type: ignore[dict-item]
    "step": STEP_TRANSITIONS,  # type: ignore[dict-item]
    "attempt": ATTEMPT_TRANSITIONS,  # type: ignore[dict-item]
    "approval request": APPROVAL_TRANSITIONS,  # type: ignore[dict-item]
    "agent session": SESSION_TRANSITIONS,  # type: ignore[dict-item]
}
"""All tables by the name of their machine."""

S = TypeVar("S", bound=StrEnum)


def transition(table: Mapping[S, frozenset[S]], state: S, to: S) -> S:
    """Returns ``to`` when the table has that edge; raises InvalidTransition otherwise."""
    if to not in table[state]:
        allowed = ", ".join(sorted(table[state])) or "nothing: it is final"
        raise InvalidTransition(
            f"{type(state).__name__} {state} cannot become {to}; from here it can become {allowed}",
            metadata={"state": str(state), "to": str(to)},
        )
    return to


def terminal(table: Mapping[S, frozenset[S]]) -> frozenset[S]:
    """Returns the states of a table that have no successors."""
    return frozenset(state for state, successors in table.items() if not successors)
