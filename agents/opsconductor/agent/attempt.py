"""Carries one order from verification to its end; every promise is journalled before it counts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.agent import undo_values, verify
from opsconductor.agent.adoption import Kept
from opsconductor.agent.calls import Circumstances, Collected
from opsconductor.agent.execution import Ongoing, Work
from opsconductor.agent.executors.base import Refused, SurvivingExecutor
from opsconductor.agent.executors.waiting import boottime
from opsconductor.agent.journal import Entry
from opsconductor.agent.poison import Poison
from opsconductor.agent.record_log import JournalFailed, JournalFull
from opsconductor.agent.refusal import Refusal
from opsconductor.agent.report import (
    MAX_CAPTURED_BYTES,
    Failure,
    Report,
    refusal,
)
from opsconductor.rpc import canonical, failpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsconductor.agent.calls import Caller, PreparedCall
    from opsconductor.agent.executors.local.run_folder import RunFolder, RunFolders
    from opsconductor.agent.fence import Fences
    from opsconductor.agent.journal import Journal
    from opsconductor.agent.masking import Masks
    from opsconductor.agent.order import Order
    from opsconductor.agent.output import Spools
    from opsconductor.agent.spans import AttemptSpan, Spans

START_WITHIN = 10.0
"""Seconds after the last look at the fence in which a recorded start has to be made."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Workshop:
    """Everything attempts work with."""

    journal: Journal
    trust: verify.Trust
    caller: Caller
    spools: Spools
    fence: Fences
    spans: Spans
    masks: Masks
    clock: Callable[[], float]
    boot_id: str
    poison: Poison = field(default_factory=Poison)
    runs: RunFolders | None = None
    """Where commands that outlive the agent are supervised; None lets them end with it."""


class Attempt(Ongoing):
    """One order on its way."""

    def __init__(self, order: Order, shop: Workshop, publish: Callable[[Report], None]) -> None:
        report = Report(order.attempt_id, "granted", session_epoch=order.session_epoch)
        super().__init__(report, shop, publish)
        self.order = order

    async def run(self) -> Report:
        """Carries the order out and returns the final, journalled report."""
        shop, order = self._shop, self.order
        facts = {
            "opsconductor.execution_id": order.execution_id,
            "opsconductor.step_id": order.step_id,
            "opsconductor.attempt_id": order.attempt_id,
        }
        span = shop.spans.attempt(f"attempt {order.step_id}", order.traceparent, facts)
        self.report = await self._to_the_end(span)
        error = self.report.error
        span.end(self.report.state, f"{error.code}: {error.message}" if error else "")
        return self.report

    async def _to_the_end(self, span: AttemptSpan) -> Report:
        failpoints.hit("assign.before_verify")
        try:
            with span.child("verify"):
                verified = self._verify()
            around = Circumstances(
                self.order.attempt_id, self.cancel, _environment(self.order, span.traceparent)
            )
            prepared = self._prepare(verified)
            blocked = await self._precheck(verified, around, span)
            if blocked is not None:
                return await self._settle(blocked, verified.read_only)
            captured = await self._capture(verified, around, span)
            start_by = boottime() + START_WITHIN
            entry, folder = await self._begin(verified, prepared, captured, around)
        except Refusal as refused:
            return await self._refused(refused)
        except Refused as refused:
            error = refused.outcome.error
            code, message = (error.code, error.message) if error else ("REFUSED", str(refused))
            return await self._refused(Refusal(code, message))
        except JournalFailed:
            raise
        except Exception as exc:
            known = self._shop.journal.find(self.order.attempt_id)
            if known is not None and known.started:
                raise
            # One order that nothing can be made of must not take the others down with the agent.
            _log.exception("attempt %s: the agent itself failed", self.order.attempt_id)
            return await self._refused(self._shop.poison.crashed(self.order, exc))
        work = Work(
            prepared=replace(prepared, folder=folder),
            check=self._check(verified),
            around=around,
            timeout=timedelta(milliseconds=verified.body["timeout_ms"]),
            entry=entry,
            spool=self._shop.spools.open(self.order.attempt_id),
            start_by=start_by,
        )
        return await self._execute(work, span)

    def _verify(self) -> verify.Verified:
        shop, order = self._shop, self.order
        if self.refuse_with is not None:
            raise self.refuse_with
        shop.poison.check(order)
        shop.fence.check(order)
        now = datetime.fromtimestamp(shop.clock(), UTC)
        return verify.verify(
            order,
            shop.trust,
            now=now,
            starts=shop.journal.starts(order.group),
            last=shop.journal.last_started(order.group),
            undone=shop.journal.find(order.undoes_attempt_id),
        )

    def _prepare(self, verified: verify.Verified) -> PreparedCall:
        caller = self._shop.caller
        if self.order.kind == "forward":
            return caller.prepare(verified.call, section=verified.call.section)
        if verified.undo is not None:
            return caller.prepare(verified.undo)
        return caller.prepare(verified.call, section="undo", captured=self._own_capture())

    def _own_capture(self) -> Any:
        """Returns what this agent itself captured; what the orchestrator says must be the same."""
        forward = self._shop.journal.find(self.order.undoes_attempt_id)
        group = replace(self.order, kind="forward").group
        if forward is None or forward.group != group or not forward.report.captured:
            raise Refusal(
                "CAPTURE_UNVERIFIED",
                "this agent has captured no state of attempt "
                f"{self.order.undoes_attempt_id or '(none named)'}; restoring something else "
                "could do harm",
            )
        late = self.order.late_inputs.decode() or "{}"
        if canonical.loads(late.encode()) != canonical.loads((forward.late or "{}").encode()):
            raise Refusal(
                "LATE_INPUT_INVALID", "the inputs to undo are not those the step started with"
            )
        own = canonical.loads(forward.report.captured.encode())
        try:
            same = canonical.loads(self.order.captured) == own
        except canonical.CanonicalError:
            same = False
        if not same:
            raise Refusal(
                "CAPTURE_UNVERIFIED", "the state to restore is not the one this agent captured"
            )
        return own

    async def _precheck(
        self, verified: verify.Verified, around: Circumstances, span: AttemptSpan
    ) -> Report | None:
        if verified.precheck is None or self.order.kind != "forward":
            return None
        with span.child("precheck"):
            result = await self._side_call(verified.precheck, around)
        if result.state == "completed" or self.refuse_with is not None:
            return None
        said = result.failure.message if result.failure else result.state
        message = f"the precheck failed, so nothing was done: {said}"
        retryable = result.state in ("unreachable", "timed_out")
        return replace(
            self.report,
            state="failed",
            effects="none",
            error=Failure(
                "PRECHECK_FAILED", message, "retryable" if retryable else "non_retryable"
            ),
        )

    async def _capture(
        self, verified: verify.Verified, around: Circumstances, span: AttemptSpan
    ) -> str:
        """Returns the state before the change as JSON text; empty when the tool captures none."""
        tool = verified.call.tool
        changing = self.order.kind == "forward" and verified.call.section == "command"
        if tool.capture is None or verified.read_only or not changing:
            return ""
        with span.child("capture"):
            seen = Collected()
            result = await self._side_call(verified.call, around, section="capture", store=seen)
        if self.refuse_with is not None:
            return ""
        size = len(seen.content("stdout"))
        if result.state != "completed" and size > MAX_CAPTURED_BYTES:
            raise _too_large(size)
        if result.state != "completed":
            said = result.failure.message if result.failure else result.state
            raise Refusal("CAPTURE_FAILED", f"the state before could not be read: {said}")
        data = canonical.dumps(result.output)
        if len(data) > MAX_CAPTURED_BYTES:
            raise _too_large(len(data))
        return data.decode()

    async def _begin(
        self,
        verified: verify.Verified,
        prepared: PreparedCall,
        captured: str,
        around: Circumstances,
    ) -> tuple[Entry, RunFolder | None]:
        """Records that effects may begin; raises Refusal when they may not."""
        shop, order = self._shop, self.order
        if self.refuse_with is not None:
            raise self.refuse_with
        shop.fence.check(order)
        forward = shop.journal.last_started(replace(order, kind="forward").group)
        if order.kind == "undo" and forward is not None and forward.state == "running":
            raise Refusal("ALREADY_RUNNING", f"step {order.step_id} runs; it cannot be undone yet")
        starts = shop.journal.starts(order.group)
        verify.require_allowance(order, verified, starts, shop.journal.last_started(order.group))
        running = replace(
            self.report,
            state="running",
            start_time=shop.clock(),
            command=prepared.command,
            captured=captured,
        )
        folder = self._keep(verified, prepared, around)
        self.report = shop.masks.report(running)
        entry = Entry(
            self.report,
            read_only=verified.read_only,
            group=order.group,
            boot_id=shop.boot_id,
            started=True,
            late="" if verified.read_only else order.late_inputs.decode(),
            supervised=folder is not None,
            undo_paths=self._undo_paths(verified),
        )
        try:
            await shop.journal.executing(entry)
        except JournalFull as exc:
            self.report = replace(self.report, state="granted", start_time=0.0)
            if shop.runs is not None:
                shop.runs.remove(order.attempt_id)
            raise Refusal("DISK_FULL", f"this agent cannot record a start: {exc}") from exc
        failpoints.hit("executing.after_fsync_before_spawn")
        return entry, folder

    def _undo_paths(self, verified: verify.Verified) -> str:
        """Returns where in the output the values stand that an undo will need, as JSON text."""
        if verified.read_only or self.order.kind != "forward":
            return ""
        wanted = undo_values.paths(verified.body["undo"]["call"])
        return canonical.dumps(wanted).decode() if wanted else ""

    def _keep(
        self, verified: verify.Verified, prepared: PreparedCall, around: Circumstances
    ) -> RunFolder | None:
        """Makes the folder of a call that can outlive this agent; None for others."""
        runs, executor = self._shop.runs, prepared.executor
        if runs is None or verified.read_only or not isinstance(executor, SurvivingExecutor):
            return None
        kept = Kept(
            execution_id=self.order.execution_id,
            step_id=self.order.step_id,
            traceparent=self.order.traceparent,
            env=around.env,
            timeout_ms=verified.body["timeout_ms"],
            section=prepared.section,
            call=prepared.call,
            check=self._check(verified),
        )
        try:
            folder = runs.keep(self.order.attempt_id, kept.to_bytes())
            executor.warm()
        except OSError as exc:
            runs.remove(self.order.attempt_id)
            raise Refusal("DISK_FULL", f"this agent cannot prepare a start: {exc}") from exc
        return folder

    def _check(self, verified: verify.Verified) -> verify.VerifiedCall | None:
        return verified.verify if self.order.kind == "forward" else None

    def _crashed(self, exc: Exception) -> Refusal:
        return self._shop.poison.crashed(self.order, exc)

    async def _refused(self, refused: Refusal) -> Report:
        _log.warning("attempt %s not started: %s", self.order.attempt_id, refused)
        report = refusal(
            self.order.attempt_id,
            refused.code,
            refused.message,
            epoch=self.order.session_epoch,
            now=self._shop.clock(),
        )
        return await self._settle(report, read_only=False)

    async def _settle(self, report: Report, read_only: bool) -> Report:  # noqa: FBT001
        """Records an end before any start."""
        report = self._shop.masks.report(replace(report, end_time=self._shop.clock()))
        entry = Entry(report, read_only=read_only, group=self.order.group)
        try:
            await self._shop.journal.final(entry)
        except JournalFull:
            # An attempt that never started may be forgotten: should it be ordered again, that is
            # its first start.
            _log.error("attempt %s: its refusal could not be recorded", self.order.attempt_id)
        return report


def _environment(order: Order, traceparent: str) -> dict[str, str]:
    variables = {
        "OPSCONDUCTOR_EXECUTION_ID": order.execution_id,
        "OPSCONDUCTOR_STEP_ID": order.step_id,
    }
    return {**variables, "TRACEPARENT": traceparent} if traceparent else variables


def _too_large(size: int) -> Refusal:
    return Refusal(
        "CAPTURE_TOO_LARGE", f"the state before has {size} bytes, {MAX_CAPTURED_BYTES} can be kept"
    )
