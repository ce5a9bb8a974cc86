"""The agent's set of attempts: takes orders, ends them, remembers what is not confirmed."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from opsconductor.agent.adoption import Adopted
from opsconductor.agent.attempt import Attempt, Workshop
from opsconductor.agent.ending import as_kept
from opsconductor.agent.journal import Entry
from opsconductor.agent.record_log import JournalFull
from opsconductor.agent.refusal import Refusal
from opsconductor.agent.report import Report, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from opsconductor.agent.execution import Ongoing
    from opsconductor.agent.order import Order

_log = logging.getLogger(__name__)


class Worker:
    """Runs attempts side by side, up to a capacity; outlives sessions."""

    def __init__(self, shop: Workshop, *, capacity: int) -> None:
        self._shop = shop
        self._capacity = capacity
        self._running: dict[str, Ongoing] = {}
        self._work: dict[str, asyncio.Task[None]] = {}
        self._unjournalled: dict[str, Report] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._publish: Callable[[Report], None] = lambda _: None
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = ""
        """Why no more work is taken; empty while it is."""
        self.broken = asyncio.Event()
        """Set when the journal cannot be relied on any more; the process must end."""

    def recover(self) -> None:
        """Takes up what an earlier process left: unknown ends, output that was not sent."""
        shop = self._shop
        left = shop.journal.adoptable(shop.boot_id) if shop.runs is not None else []
        adopted = {entry.report.attempt_id for entry in left}
        for report in shop.journal.unknown_after_crash(shop.boot_id, adopted):
            _log.warning("attempt %s: %s", report.attempt_id, report.error and report.error.message)
        for attempt_id in shop.spools.recover():
            entry = shop.journal.find(attempt_id)
            if entry is None:
                shop.spools.discard(attempt_id)
            elif entry.acked_at:
                shop.spools.release(attempt_id)
        for entry in shop.journal.unacknowledged():
            if entry.report.attempt_id not in adopted:
                self._match_output(entry.report)
        self._clear_runs()
        for entry in left:
            _log.info(
                "attempt %s: taking up what an earlier process began", entry.report.attempt_id
            )
            self._run(Adopted(entry, shop, lambda report: self._publish(report)))

    def connect(self, publish: Callable[[Report], None]) -> None:
        """Sends reports there from now on."""
        self._publish = publish

    def disconnect(self) -> None:
        """Keeps reports until the next session."""
        self._publish = lambda _: None

    @property
    def running(self) -> int:
        """How many attempts the agent has now."""
        return len(self._running)

    def reports(self) -> list[Report]:
        """Returns where every attempt stands that is not acknowledged."""
        journalled = {
            entry.report.attempt_id: entry.report for entry in self._shop.journal.unacknowledged()
        }
        live = {attempt_id: attempt.report for attempt_id, attempt in self._running.items()}
        return list({**journalled, **self._unjournalled, **live}.values())

    def assign(self, order: Order, objection: Refusal | None = None) -> None:
        """Starts an order, or answers with what is known of it; refuses it with an objection."""
        known = self._known(order.attempt_id)
        if known is not None:
            self._publish(known)
            return
        attempt = Attempt(order, self._shop, lambda report: self._publish(report))
        if objection is not None:
            attempt.refuse_with = objection
        elif self.draining:
            attempt.refuse_with = Refusal(
                "AGENT_DRAINING", f"the agent is draining: {self.draining}"
            )
        elif len(self._running) >= self._capacity:
            attempt.refuse_with = Refusal("AGENT_FULL", f"{self._capacity} attempts are running")
        self._run(attempt)

    def cancel(self, attempt_id: str, reason: str, code: str = "") -> None:
        """Ends an attempt; an unknown one is journalled as refused, so it can never start.

        Args:
            attempt_id: The attempt.
            reason: Why, for people.
            code: Named in the report when it is the agent's own decision.
        """
        attempt = self._running.get(attempt_id)
        if attempt is not None:
            _log.info("attempt %s: cancel: %s", attempt_id, reason)
            if attempt.report.state == "granted":
                attempt.refuse_with = Refusal(
                    code or "TAKEN_BACK", f"taken back before it started: {reason}"
                )
            if code and not attempt.cancel.is_set():
                attempt.stopped_by = Refusal(code, reason)
            attempt.cancel.set()
            return
        known = self._known(attempt_id)
        if known is not None:
            self._publish(known)
            return
        self._spawn(self._refuse_unknown(attempt_id, reason))

    def acknowledge(self, attempt_id: str) -> None:
        """Turns a reported attempt into a tombstone."""
        if attempt_id in self._running:
            return
        self._unjournalled.pop(attempt_id, None)
        try:
            self._shop.journal.acknowledge(attempt_id)
        except JournalFull:
            # It stays unacknowledged here and is reported once more, which changes nothing there.
            _log.error("attempt %s: its acknowledgement could not be recorded", attempt_id)
            return
        self._shop.spools.release(attempt_id)
        if self._shop.runs is not None:
            self._shop.runs.remove(attempt_id)

    def drain(self, reason: str) -> None:
        """Takes no more work; what runs goes on."""
        self.draining = self.draining or reason

    async def wait_idle(self) -> None:
        """Returns when nothing runs."""
        await self._idle.wait()

    @property
    def all_acknowledged(self) -> bool:
        """Whether the orchestrator has confirmed every end and taken all output.

        What this process has left to the next one has no end here.
        """
        shop = self._shop
        reports = [entry.report for entry in shop.journal.unacknowledged()]
        return (
            not self._unjournalled
            and not any(each.final or each.attempt_id in self._running for each in reports)
            and all(spool.delivered for spool in shop.spools)
        )

    def cancel_all(self, reason: str) -> None:
        """Ends everything that runs, except what outlives the agent."""
        for attempt_id in list(self._running):
            if self._outlives(attempt_id):
                _log.warning("attempt %s goes on; the agent's next start takes it up", attempt_id)
                self._work[attempt_id].cancel()
            else:
                self.cancel(attempt_id, reason)

    def _outlives(self, attempt_id: str) -> bool:
        entry = self._shop.journal.find(attempt_id)
        runs = self._shop.runs
        if runs is None or entry is None or not entry.supervised:
            return False
        if self._running[attempt_id].cancel.is_set():
            return False
        folder = runs.of(attempt_id)
        return folder.is_supervised() or folder.exit is not None

    def _known(self, attempt_id: str) -> Report | None:
        attempt = self._running.get(attempt_id)
        if attempt is not None:
            return attempt.report
        entry = self._shop.journal.find(attempt_id)
        return entry.report if entry else self._unjournalled.get(attempt_id)

    def _run(self, attempt: Ongoing) -> None:
        self._running[attempt.attempt_id] = attempt
        self._idle.clear()
        self._work[attempt.attempt_id] = self._spawn(self._carry_out(attempt))

    async def _carry_out(self, attempt: Ongoing) -> None:
        attempt_id = attempt.attempt_id
        try:
            report = await attempt.run()
        finally:
            del self._running[attempt_id], self._work[attempt_id]
            if not self._running:
                self._idle.set()
        if self._shop.journal.find(attempt_id) is None:
            self._unjournalled[attempt_id] = report
        self._publish(report)

    async def _refuse_unknown(self, attempt_id: str, reason: str) -> None:
        shop = self._shop
        if self._known(attempt_id) is not None:
            self.cancel(attempt_id, reason)
            return
        report = refusal(
            attempt_id,
            "TAKEN_BACK",
            f"taken back before it arrived: {reason}",
            epoch=shop.fence.epoch,
            now=shop.clock(),
        )
        try:
            await shop.journal.final(Entry(report, read_only=False))
        except JournalFull:
            # Without the record the order could still come and start, so nothing is promised.
            _log.error("attempt %s: its cancel could not be recorded", attempt_id)
            return
        self._publish(report)

    def _match_output(self, report: Report) -> None:
        """Makes a report declare what the spool holds, should power loss have taken some."""
        spool = self._shop.spools.find(report.attempt_id) or self._shop.spools.open(
            report.attempt_id
        )
        kept = as_kept(report, spool)
        if kept != report:
            self._shop.journal.amend(kept)

    def _clear_runs(self) -> None:
        """Deletes folders of runs that nobody will ask about, once their commands have ended."""
        runs, journal = self._shop.runs, self._shop.journal
        for attempt_id in runs or ():
            entry = journal.find(attempt_id)
            if runs is not None and (entry is None or entry.acked_at):
                runs.remove(attempt_id)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        # An order ended without a record: only a fresh look at the journal can tell.
        _log.critical("the agent must stop: %s", error, exc_info=error)
        self.broken.set()
