"""Keeps a session with one orchestrator: connects, works, and connects again."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from typing import TYPE_CHECKING

import grpc

from opsconductor.agent.record_log import JournalFailed
from opsconductor.agent.session import tasks
from opsconductor.agent.session.control import ControlSession, Overtaken
from opsconductor.agent.session.outputs import OutputSender
from opsconductor.agent.session.poison_frames import UnreadableFrame
from opsconductor.rpc.errors import (
    DuplicateAgent,
    OpsConductorError,
    StaleEpoch,
    StoreRegressed,
)
from opsconductor.rpc.status import from_rpc_error

if TYPE_CHECKING:
    from opsconductor.agent.session.shared import Shared

FIRST_WAIT = 0.2
LONGEST_WAIT = 30.0
SETTLED_AFTER = 5.0
"""Seconds after which a session was a good one, and the next may be tried at once."""
WAIT_AFTER_ACCEPTED = 2.0
DUPLICATE_WAIT = 30.0
"""A copied agent is a matter for a person; but once they have released it, they wait for it."""
STAND_BY_WAIT = 10.0

_log = logging.getLogger(__name__)


class Link:
    """The agent's connection to one endpoint, over and over."""

    def __init__(self, endpoint: str, shared: Shared) -> None:
        self._endpoint = endpoint
        self._shared = shared
        self._fence = shared.fences.new()
        self._replica_id = ""
        """Whom it reached last."""
        self._opened_at = float("inf")
        """When its last session was opened, on the event loop's clock."""
        self._complaint = ""

    async def run(self) -> None:
        """Connects for ever, with growing and random waits between failures, until cancelled."""
        wait = FIRST_WAIT
        try:
            while True:
                await self._stand_by()
                try:
                    wait = await self._once(wait)
                except asyncio.CancelledError:
                    if tasks.cancelled_from_outside():
                        raise
                    wait = _longer(wait)  # a call of the session was cancelled, not the agent
                # Full jitter: after an outage the fleet must not come back in one moment.
                await asyncio.sleep(random.uniform(0, wait))  # noqa: S311 - not a secret
        finally:
            self._shared.fences.drop(self._fence)

    async def _stand_by(self) -> None:
        """Waits while another link has a session with the orchestrator that this one leads to."""
        board = self._shared.board
        while board.holds(self._replica_id):
            await board.until_released(self._replica_id)
            # Who had the session is the first to try again.
            await asyncio.sleep(random.uniform(STAND_BY_WAIT / 2, STAND_BY_WAIT))  # noqa: S311

    async def _once(self, wait: float) -> float:
        """Lives through one connection; returns how long to wait at most before the next."""
        self._opened_at = float("inf")
        try:
            await self._connect_and_work()
        except Overtaken as exc:
            _log.debug("%s: %s; connecting again", self._endpoint, exc)
            return FIRST_WAIT
        except (OpsConductorError, grpc.RpcError, OSError, TimeoutError, ssl.SSLError) as exc:
            return self._after_failure(exc, wait)
        except JournalFailed:
            raise
        except Exception:  # noqa: BLE001 - a defect of one session must not end the agent's work
            _log.exception("the session failed in a way nobody foresaw; connecting again")
            return _longer(wait)
        return self._wait_after_session(wait)

    def _wait_after_session(self, wait: float) -> float:
        lasted = asyncio.get_running_loop().time() - self._opened_at
        if lasted >= SETTLED_AFTER:
            return FIRST_WAIT
        # An orchestrator that accepted the agent is there; only its frames can be a reason to wait.
        return _longer(wait) if lasted < 0 else min(_longer(wait), WAIT_AFTER_ACCEPTED)

    async def _connect_and_work(self) -> None:
        shared = self._shared
        async with shared.certificates.open_channel(self._endpoint) as channel:
            session = ControlSession(channel, shared, self._fence)
            try:
                async with shared.board.opening():
                    if shared.board.holds(self._replica_id):
                        return
                    await session.open()
                self._welcomed(session)
                with shared.inventory.over(channel):
                    await self._work(session, channel)
            finally:
                session.close()

    def _welcomed(self, session: ControlSession) -> None:
        self._replica_id = session.replica_id
        self._complaint = ""
        self._opened_at = asyncio.get_running_loop().time()
        _log.info("connected: session %d with %s", self._fence.epoch, self._endpoint)

    async def _work(self, session: ControlSession, channel: grpc.aio.Channel) -> None:
        shared = self._shared
        sender = OutputSender(channel, shared.spools, shared.board.output_turn)
        output = asyncio.create_task(sender.run())
        renewal = asyncio.create_task(shared.certificates.renew_when_due(channel))
        control = asyncio.create_task(session.run())
        try:
            done, _ = await asyncio.wait(
                {control, renewal, output}, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            await tasks.end(control, renewal, output)

    def _after_failure(self, exc: Exception, wait: float) -> float:
        error = from_rpc_error(exc) if isinstance(exc, grpc.RpcError) else exc
        self._complain(error, level=_level(error, of_the_other_side=error is not exc))
        if isinstance(error, UnreadableFrame):
            self._shared.poison_frames.keep(error.frame)
            return _longer(wait)
        if isinstance(error, DuplicateAgent):
            return DUPLICATE_WAIT
        return self._wait_after_session(wait)

    def _complain(self, error: Exception, level: int) -> None:
        """Logs why there is no session; the same complaint only once in a row."""
        text = str(error) or type(error).__name__
        if isinstance(error, DuplicateAgent):
            text = (
                f"DUPLICATE_AGENT: {text}. Another process works with a copy of this agent's "
                "folder. Stop the copy, or give it a folder and a token of its own; no work is "
                "taken until an operator has looked"
            )
        if text == self._complaint:
            level = logging.DEBUG
        self._complaint = text
        _log.log(level, "no session with %s: %s", self._endpoint, text)


def _longer(wait: float) -> float:
    return min(wait * 2, LONGEST_WAIT)


def _level(error: Exception, *, of_the_other_side: bool) -> int:
    if isinstance(error, StaleEpoch) and of_the_other_side:
        return logging.INFO  # another connection of this agent was faster there
    grave = isinstance(error, StoreRegressed | StaleEpoch)
    return logging.WARNING if getattr(error, "retryable", True) and not grave else logging.ERROR
