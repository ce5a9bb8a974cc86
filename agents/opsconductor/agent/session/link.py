"""Keeps one session alive for as long as the agent lives: connects, works, and connects again."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from opsconductor.agent.record_log import JournalFailed
from opsconductor.agent.session import tasks
from opsconductor.agent.session.control import ControlSession
from opsconductor.agent.session.outputs import OutputSender
from opsconductor.rpc.errors import OpsConductorError, StaleEpoch, StoreRegressed
from opsconductor.rpc.status import from_rpc_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsconductor.agent.fence import Fence
    from opsconductor.agent.journal import Journal
    from opsconductor.agent.output import Spools
    from opsconductor.agent.session.inventory import InventoryQueries
    from opsconductor.agent.worker import Worker

FIRST_WAIT = 0.2
LONGEST_WAIT = 30.0

_log = logging.getLogger(__name__)


class Certificates(Protocol):
    """Opens channels with the agent's newest certificate."""

    def open_channel(self) -> grpc.aio.Channel:
        """Opens a channel."""

    async def renew_when_due(self, channel: grpc.aio.Channel) -> None:
        """Returns after a renewal, when a new connection should be made."""


class Link:
    """The agent's one outbound connection, over and over."""

    def __init__(
        self,
        certificates: Certificates,
        worker: Worker,
        journal: Journal,
        fence: Fence,
        spools: Spools,
        inventory: InventoryQueries,
        facts: Callable[[], dict[str, Any]],
    ) -> None:
        self._certificates = certificates
        self._worker = worker
        self._journal = journal
        self._fence = fence
        self._spools = spools
        self._inventory = inventory
        self._facts = facts
        self._session: ControlSession | None = None
        self._ended_well = False
        self._complaint = ""

    @property
    def connected(self) -> bool:
        """Whether a session is open."""
        return self._session is not None

    def announce_draining(self) -> None:
        """Tells the orchestrator, now if connected and else at the next connect."""
        if self._session is not None:
            self._session.announce_draining()

    async def run(self) -> None:
        """Connects for ever, with growing and random waits between failures, until cancelled."""
        wait = FIRST_WAIT
        while True:
            try:
                welcomed = await self._once()
            except asyncio.CancelledError:
                if tasks.cancelled_from_outside():
                    raise
                welcomed = False  # a call of the session was cancelled, not the agent
            wait = FIRST_WAIT if welcomed else min(wait * 2, LONGEST_WAIT)
            # Full jitter: after an outage the fleet must not come back in one moment.
            await asyncio.sleep(random.uniform(0, wait))  # noqa: S311 - not a secret

    async def _once(self) -> bool:
        """Lives through one connection; returns whether the orchestrator accepted it."""
        welcomed = False
        try:
            channel = self._certificates.open_channel()
            async with channel:
                session = ControlSession(
                    channel, self._worker, self._journal, self._fence, self._facts
                )
                try:
                    await session.open()
                    welcomed = True
                    self._welcomed(session)
                    await self._work(session, channel)
                finally:
                    self._session = None
                    self._inventory.channel = None
                    session.close()
        except (OpsConductorError, grpc.RpcError, OSError, TimeoutError, ssl.SSLError) as exc:
            self._report_failure(exc)
        except JournalFailed:
            raise
        except Exception:  # noqa: BLE001 - a defect of one session must not end the agent's work
            _log.exception("the session failed in a way nobody foresaw; connecting again")
        else:
            _log.info("the session ended; connecting again")
        return welcomed

    def _welcomed(self, session: ControlSession) -> None:
        self._session = session
        self._complaint = ""
        _log.info("connected: session %d", self._journal.epoch)

    async def _work(self, session: ControlSession, channel: grpc.aio.Channel) -> None:
        self._inventory.channel = channel
        output = asyncio.create_task(OutputSender(channel, self._spools).run())
        renewal = asyncio.create_task(self._certificates.renew_when_due(channel))
        control = asyncio.create_task(session.run())
        try:
            done, _ = await asyncio.wait(
                {control, renewal, output}, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            await tasks.end(control, renewal, output)

    def _report_failure(self, exc: BaseException) -> None:
        """Logs why there is no session; the same complaint only once in a row."""
        error = from_rpc_error(exc) if isinstance(exc, grpc.RpcError) else exc
        text = str(error) or type(error).__name__
        grave = isinstance(error, StoreRegressed | StaleEpoch) or not getattr(
            error, "retryable", True
        )
        level = logging.ERROR if grave else logging.WARNING
        if text == self._complaint:
            level = logging.DEBUG
        self._complaint = text
        _log.log(level, "no session: %s", text)
