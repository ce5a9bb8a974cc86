"""What all attempts have in common from the moment their start is recorded: one way to an end."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

from opsconductor.agent import ending, undo_values
from opsconductor.agent.calls import Collected, judge
from opsconductor.agent.executors.base import Outcome, Refused, StepFailure
from opsconductor.agent.executors.waiting import boottime
from opsconductor.agent.report import Failure, Report
from opsconductor.agent.taking import TakingSink
from opsconductor.rpc import failpoints

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from opsconductor.agent import verify
    from opsconductor.agent.attempt import Workshop
    from opsconductor.agent.calls import Circumstances, PreparedCall, Result
    from opsconductor.agent.journal import Entry
    from opsconductor.agent.masking import MaskedSink
    from opsconductor.agent.output import Spool
    from opsconductor.agent.refusal import Refusal
    from opsconductor.agent.spans import AttemptSpan
    from opsconductor.tool_registry.rendering.render import Section

RUNNING_REPORT_DELAY = 0.05
"""Seconds after which a running attempt is reported; shorter ones report their end only."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """A call whose start is recorded."""

    prepared: PreparedCall
    check: verify.VerifiedCall | None
    """The verification to make when it completed."""
    around: Circumstances
    timeout: timedelta
    entry: Entry
    spool: Spool
    start_by: float = inf
    """On the boot clock: later than this it is not begun any more."""


class Ongoing(ABC):
    """An attempt on its way."""

    def __init__(self, report: Report, shop: Workshop, publish: Callable[[Report], None]) -> None:
        self.report = report
        self.cancel = asyncio.Event()
        self.refuse_with: Refusal | None = None
        """Set to take the order back while it has not started."""
        self.stopped_by: Refusal | None = None
        """Why the agent itself ends it while it runs; None when it does not."""
        self._shop = shop
        self._publish = publish

    @property
    def attempt_id(self) -> str:
        """Its id."""
        return self.report.attempt_id

    @abstractmethod
    async def run(self) -> Report:
        """Brings it to its end and returns the final, journalled report."""

    @abstractmethod
    def _crashed(self, exc: Exception) -> Refusal:
        """Returns what to say about a defect of the agent."""

    async def _execute(self, work: Work, span: AttemptSpan) -> Report:
        """Carries the call out, or takes it up; returns the journalled end."""
        read_only, output = work.entry.read_only, None
        late = asyncio.get_running_loop().call_later(
            RUNNING_REPORT_DELAY, self._publish, self.report
        )
        try:
            result = await self._carry_out(work, span)
            output = result.output
            failure = await self._verification_failure(work, result, span)
            report = ending.ended(self.report, result, failure, work.spool, read_only=read_only)
            report = ending.saying_why(report, self.stopped_by)
        except Exception as exc:  # noqa: BLE001 - third parties write executors
            _log.exception("attempt %s: the executor failed", self.attempt_id)
            why = self._crashed(exc)
            report = ending.defect(self.report, why, work.spool, read_only=read_only)
        finally:
            late.cancel()
        if not read_only:
            await ending.sync_output(work.spool)
        report = self._shop.masks.report(replace(report, end_time=self._shop.clock()))
        failpoints.hit("exit.before_append")
        values = undo_values.looked_up(work.entry.undo_paths, output)
        await self._shop.journal.final(replace(work.entry, report=report, undo_values=values))
        failpoints.hit("exit.after_append_before_report")
        return report

    async def _carry_out(self, work: Work, span: AttemptSpan) -> Result:
        if boottime() > work.start_by:
            said = "nothing was started: recording the start took longer than the start may wait"
            outcome = Outcome("failed", error=StepFailure("START_OVERDUE", said, "retryable"))
            return judge(work.prepared, outcome, work.spool)
        sink = self._sink(work)
        try:
            with span.child("run"):
                return await self._shop.caller.carry_out(
                    work.prepared,
                    work.spool,
                    work.around,
                    timeout=work.timeout,
                    read_only=work.entry.read_only,
                    sink=sink,
                )
        finally:
            if isinstance(sink, TakingSink):
                sink.close()

    def _sink(self, work: Work) -> MaskedSink | TakingSink:
        masks = self._shop.masks
        if work.prepared.folder is None:
            return masks.sink(work.spool)
        return TakingSink(work.prepared.folder, work.spool, masks.streams())

    async def _verification_failure(
        self, work: Work, result: Result, span: AttemptSpan
    ) -> Failure | None:
        if work.check is None or result.state != "completed":
            return None
        with span.child("verify-call"):
            try:
                checked = await self._side_call(work.check, work.around)
            except Refused as refused:
                said = str(refused)
            else:
                if checked.state == "completed":
                    return None
                said = checked.failure.message if checked.failure else checked.state
        message = f"it ran, but the verification failed: {said}"
        return Failure("VERIFY_FAILED", message, "rollback_required")

    async def _side_call(
        self,
        call: verify.VerifiedCall,
        around: Circumstances,
        *,
        section: Section = "command",
        store: Collected | None = None,
    ) -> Result:
        prepared = self._shop.caller.prepare(call, section=section)
        return await self._shop.caller.carry_out(
            prepared, store or Collected(), around, timeout=call.tool.timeout, read_only=True
        )
