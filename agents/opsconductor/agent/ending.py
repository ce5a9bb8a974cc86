"""How a call that ended becomes the report of its attempt."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from opsconductor.agent.calls import as_json
from opsconductor.agent.report import MAX_OUTPUT_BYTES, Failure, Report

if TYPE_CHECKING:
    from opsconductor.agent.calls import Result
    from opsconductor.agent.output import Spool

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


def defect(running: Report, exc: Exception, spool: Spool, *, read_only: bool) -> Report:
    """Returns the report of an attempt during which the agent itself failed."""
    message = f"the agent itself failed: {exc!r}; its log has the details"
    return replace(
        _with_output(running, spool),
        state="failed" if read_only else "unknown",
        effects="none" if read_only else "possible",
        error=Failure("AGENT_DEFECT", message, "non_retryable" if read_only else "unknown"),
    )


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
    stdout, stderr = spool.streams["stdout"], spool.streams["stderr"]
    return replace(
        running,
        stdout_bytes=stdout.length,
        stderr_bytes=stderr.length,
        stdout_sha256=stdout.sha256,
        stderr_sha256=stderr.sha256,
    )


def _noting_cut(error: Failure | None, spool: Spool) -> Failure | None:
    if error is None or not spool.dropped:
        return error
    kept = sum(stream.length for stream in spool.streams.values())
    note = f"{error.message} (output cut at {kept} bytes, {spool.dropped} dropped)"
    return replace(error, message=note)
