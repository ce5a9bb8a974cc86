"""One open execution in memory: its state, its place in the chain, and its turn-taking."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.advance import settle
from opsconductor.orchestrator.engine import log, rows
from opsconductor.orchestrator.store.base import (
    AppendEvents,
    Op,
    PutApproval,
    PutAttempt,
    PutExecution,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from opsconductor.orchestrator.domain import events as ev
    from opsconductor.orchestrator.domain.execution import Execution


@dataclass
class Actor:
    """An execution and what of it is not written yet."""

    state: Execution
    head: str = log.GENESIS
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    written: Execution | None = None
    """The state as the store has it; None before the first commit."""
    timer: datetime | None = None
    """When it asked to be looked at again."""
    unwritten: list[ev.Recorded] = field(default_factory=list)
    """Events that nobody waits for; they go with the next commit."""


@dataclass
class Change:
    """A step forward of one execution that is worked out but not committed."""

    actor: Actor
    state: Execution
    recorded: list[ev.Recorded]

    def extend(self, events: Sequence[ev.Event], now: datetime) -> None:
        """Adds events and all that follows from them."""
        self.state, more = settle(self.state, now, events)
        self.recorded += more

    def operations(self) -> tuple[list[Op], str]:
        """Returns what to write, and the chain's head afterwards."""
        actor, state = self.actor, self.state
        events, head = log.chain(actor.head, state.execution_id, [*actor.unwritten, *self.recorded])
        old = actor.written
        ops: list[Op] = [
            AppendEvents(state.execution_id, events),
            PutExecution(rows.execution_row(state, head)),
        ]
        ops += [
            PutApproval(rows.approval_row(state, approval))
            for approval_id, approval in state.approvals.items()
            if old is None or old.approvals.get(approval_id) is not approval
        ]
        ops += [
            PutAttempt(rows.attempt_row(state, attempt))
            for attempt_id, attempt in state.attempts.items()
            if old is None or old.attempts.get(attempt_id) is not attempt
        ]
        return ops, head
