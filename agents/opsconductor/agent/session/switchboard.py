"""What the sessions of one agent share: who is connected, who is told what, whose turn it is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from opsconductor.agent.report import Report
    from opsconductor.agent.worker import Worker

TURN_WAIT = 1.0
"""Longest that an orchestrator which does not answer keeps other connections from being opened."""

_log = logging.getLogger(__name__)


class Session(Protocol):
    """An open session with one orchestrator."""

    replica_id: str

    def tell(self, report: Report) -> None:
        """Sends a report."""

    def forget(self, attempt_id: str) -> None:
        """Sends no more about an attempt whose end is on an orchestrator's disk."""

    def announce_draining(self) -> None:
        """Says that no more work is taken."""

    def supersede(self) -> None:
        """Ends the session quietly: another one has reached the same orchestrator."""


class Switchboard:
    """The open sessions of the agent."""

    def __init__(self, worker: Worker, boottime: Callable[[], float]) -> None:
        self._worker = worker
        self._boottime = boottime
        self._sessions: list[Session] = []
        self._opening = asyncio.Lock()
        self._changed = asyncio.Event()
        self._last_open = boottime()
        self.output_turn = asyncio.Lock()
        """Held by the session over which output goes."""
        worker.connect(self.tell)

    @property
    def connected(self) -> bool:
        """Whether any session is open."""
        return bool(self._sessions)

    @property
    def alone_for(self) -> float:
        """Seconds since the last session ended, or since the start; 0 while one is open."""
        return 0.0 if self._sessions else self._boottime() - self._last_open

    def holds(self, replica_id: str) -> bool:
        """Tells whether a session with this orchestrator is open."""
        return bool(replica_id) and any(each.replica_id == replica_id for each in self._sessions)

    async def until_released(self, replica_id: str) -> None:
        """Waits until no session with this orchestrator is open."""
        while self.holds(replica_id):
            await self._changed.wait()

    async def until_alone(self) -> None:
        """Waits until no session is open."""
        while self._sessions:
            await self._changed.wait()

    async def until_connected(self) -> None:
        """Waits until a session is open."""
        while not self._sessions:
            await self._changed.wait()

    @contextlib.asynccontextmanager
    async def opening(self) -> AsyncIterator[None]:
        """Lets one connection introduce the agent at a time, as long as answers come soon.

        Answers to Hellos that cross each other could arrive in another order than their epochs
        were given out, and the lower epoch would have to be refused.
        """
        taken = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TURN_WAIT):
                taken = await self._opening.acquire()
        try:
            yield
        finally:
            if taken:
                self._opening.release()

    def add(self, session: Session) -> None:
        """Takes up a session; an older one with the same orchestrator has been replaced by it."""
        for other in list(self._sessions):
            if session.replica_id and other.replica_id == session.replica_id:
                _log.debug("orchestrator %s is reached twice; one session stays", other.replica_id)
                other.supersede()
        self._sessions.append(session)
        self._note_change()

    def remove(self, session: Session) -> None:
        """Takes note that a session has ended."""
        if session not in self._sessions:
            return
        self._sessions.remove(session)
        self._last_open = self._boottime()
        self._note_change()

    def tell(self, report: Report) -> None:
        """Sends a report over every session: whoever is alive will acknowledge it."""
        for session in self._sessions:
            session.tell(report)

    def acknowledge(self, attempt_id: str) -> None:
        """Takes one orchestrator's word that an end is on disk; no other needs to hear of it."""
        for session in self._sessions:
            session.forget(attempt_id)
        self._worker.acknowledge(attempt_id)

    def announce_draining(self) -> None:
        """Tells every orchestrator, now if connected and else at the next connect."""
        for session in self._sessions:
            session.announce_draining()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
