"""How a call that ended becomes the report of its attempt."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from opsconductor.agent.calls import as_json
from opsconductor.agent.output import STREAMS
from opsconductor.agent.report import MAX_OUTPUT_BYTES, Failure, Report

if TYPE_CHECKING:
    from opsconductor.agent.calls import Result
    from opsconductor.agent.output import Spool
    from opsconductor.agent.refusal import Refusal

_STOPPED = frozenset({"cancelled", "cancel_unverified", "unknown"})

_log = logging.getLogger(__name__)


def ended(
    running: Report,
    result: Result,
    verification: Failure | None,
    spool: Spool,
    *,
    read_only: bool,
) -> Report:
    """Returns the report of a judged call.

    Args:
        running: The report so far.
        result: How the call ended.
        verification: Why the verification after it failed; None when it did not.
        spool: Its output.
        read_only: Whether the step only reads.
    """
    outcome = result.outcome
    effects = outcome.effects
    if read_only:
        effects = "none"
    elif result.state == "failed" and effects == "done":
        # It ended, but not as hoped: how far it came is not known.
        effects = "possible"
    return replace(
        _with_output(running, spool),
        state="failed" if verification else result.state,
        effects=effects,
        error=_noting_cut(verification or result.failure, spool),
        exit_code=outcome.exit_code,
        output=as_json(result.output, MAX_OUTPUT_BYTES),
        survivors=tuple(line[:500] for line in outcome.survivors[:100]),
    )


def saying_why(report: Report, stopped_by: Refusal | None) -> Report:
    """Names the agent's own reason in the report of an attempt that it ended by itself."""
    if stopped_by is None or report.error is None or report.state not in _STOPPED:
        return report
    message = f"{stopped_by.message}: {report.error.message}"
    return replace(report, error=replace(report.error, code=stopped_by.code, message=message))


def defect(running: Report, why: Refusal, spool: Spool, *, read_only: bool) -> Report:
    """Returns the report of an attempt during which the agent itself failed."""
    return replace(
        _with_output(running, spool),
        state="failed" if read_only else "unknown",
        effects="none" if read_only else "possible",
        error=Failure(why.code, why.message, "non_retryable" if read_only else "unknown"),
    )


def as_kept(report: Report, spool: Spool) -> Report:
    """Returns a report that declares what a spool holds, should its end be lost to a power loss."""
    for stream in STREAMS:
        kept = spool.streams[stream]
        declared = getattr(report, f"{stream}_bytes")
        if kept.length == declared:
            continue
        left_out, offset = getattr(report, f"{stream}_left_out"), kept.length
        if left_out:
            offset = min(getattr(report, f"{stream}_gap_offset"), kept.length)
        fields = {
            f"{stream}_bytes": kept.length,
            f"{stream}_sha256": kept.sha256,
            f"{stream}_left_out": left_out + max(declared - kept.length, 0),
            f"{stream}_gap_offset": offset,
        }
        report = replace(report, **fields)
    return report


async def sync_output(spool: Spool) -> None:
    """Puts output on disk before an end is declared that counts on it."""
    for stream in spool.streams.values():
        if not stream.length:
            continue
        try:
            await asyncio.to_thread(stream.sync)
        except OSError as exc:
            _log.error("output of %s may not survive a power loss: %s", spool.attempt_id, exc)


def _with_output(running: Report, spool: Spool) -> Report:
    """Ends the spool and returns the report with what it holds."""
    spool.finish()
    stdout, stderr = spool.streams["stdout"], spool.streams["stderr"]
    return replace(
        running,
        stdout_bytes=stdout.length,
        stderr_bytes=stderr.length,
        stdout_sha256=stdout.sha256,
        stderr_sha256=stderr.sha256,
        stdout_left_out=spool.left_out["stdout"],
        stderr_left_out=spool.left_out["stderr"],
        stdout_gap_offset=spool.gap_offsets["stdout"],
        stderr_gap_offset=spool.gap_offsets["stderr"],
    )


def _noting_cut(error: Failure | None, spool: Spool) -> Failure | None:
    if error is None or not spool.dropped or error.code == "OUTPUT_LOST":
        return error
    note = f"{error.message} (of its output {spool.dropped} bytes were left out)"
    return replace(error, message=note)
