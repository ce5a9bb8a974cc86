"""Handing over the journal to a store that an operator has restored from an older state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.agent.session.frames import report_message
from opsconductor.v1 import agent_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opsconductor.agent.journal import Entry
    from opsconductor.agent.report import Report

PART_BYTES = 256 * 1024


def journal_frames(
    entries: Iterable[Entry], reports: Iterable[Report], limit: int = PART_BYTES
) -> Iterator[pb.AgentFrame]:
    """Yields an agent's journal in parts; the last one says so.

    Args:
        entries: All that is journalled, in its order.
        reports: Where attempts stand that are under way.
        limit: Bytes of one part, unless a single entry is larger.
    """
    now = {report.attempt_id: report for report in reports}
    part, size = pb.JournalPart(), 0
    for entry in entries:
        message = _entry(entry, now.get(entry.report.attempt_id, entry.report))
        size += message.ByteSize()
        if part.entries and size > limit:
            yield pb.AgentFrame(journal=part)
            part, size = pb.JournalPart(), message.ByteSize()
        part.entries.append(message)
    part.last = True
    yield pb.AgentFrame(journal=part)


def _entry(entry: Entry, report: Report) -> pb.JournalEntry:
    execution_id, _, rest = entry.group.partition("/")
    step_id, _, kind = rest.rpartition("/")
    return pb.JournalEntry(
        report=report_message(report),
        execution_id=execution_id,
        step_id=step_id,
        kind=kind,
        started=entry.started,
    )
