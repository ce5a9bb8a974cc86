"""What the agent has promised and done: the one thing it must never forget.

Records are JSON objects with a ``t``: journal, epoch, incarnation, executing, final, ack. An
attempt is known from its first record until its tombstone expires, so it can never start a second
time.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.agent.record_log import JournalCorrupt, RecordLog
from opsconductor.agent.report import Failure, Report
from opsconductor.rpc import failpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

CHANGE_KEPT = timedelta(days=8)
"""Changes are remembered longer than any approval is valid, plus skew, plus a day."""
READ_KEPT = timedelta(hours=1)
READS_KEPT = 10_000
"""Reads are fenced by epoch and start_ttl and harmless to repeat, so few are enough."""
COMPACT_BYTES = 8 * 1024 * 1024
"""The file is rewritten when it is larger than this and mostly history."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One attempt in the journal."""

    report: Report
    read_only: bool
    group: str = ""
    """Execution, step and kind; attempts of one group count against one allowance."""
    boot_id: str = ""
    acked_at: float = 0.0
    """When the report was acknowledged; 0 before."""
    keep_until: float = 0.0
    started: bool = False
    """Whether EXECUTING was recorded."""
    late: str = ""
    """Late-bound inputs it started with, JSON text; an undo of it takes no others."""
    supervised: bool = False
    """Whether its command runs under a supervisor, which outlives the agent."""
    undo_paths: str = ""
    """Where in its output the values stand that its undo needs, JSON text by input."""
    undo_values: str = ""
    """Those values, known since it ended, JSON text by input."""

    def to_json(self) -> dict[str, Any]:
        """Returns the entry as one record."""
        return {
            "t": "entry",
            "report": self.report.to_json(),
            "read_only": self.read_only,
            "group": self.group,
            "boot_id": self.boot_id,
            "acked_at": self.acked_at,
            "keep_until": self.keep_until,
            "started": self.started,
            **({"late": self.late} if self.late else {}),
            **({"supervised": True} if self.supervised else {}),
            **({"undo_paths": self.undo_paths} if self.undo_paths else {}),
            **({"undo_values": self.undo_values} if self.undo_values else {}),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Entry:
        """Restores an entry."""
        values = {key: value for key, value in data.items() if key != "t"}
        return cls(**{**values, "report": Report.from_json(values["report"])})


class Journal:
    """The agent's memory over crashes; every change of it is one appended record."""

    def __init__(self, log: RecordLog, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._starts: Counter[str] = Counter()
        self._last_started: dict[str, str] = {}
        self._reads_acked: dict[str, None] = {}
        self._compacted_size = 0
        self.journal_id = ""
        self.epoch = 0
        self.incarnation = ""

    @classmethod
    def open(cls, path: Path, clock: Callable[[], float]) -> Journal:
        """Opens or makes the journal; raises JournalCorrupt when it cannot be trusted."""
        log, payloads = RecordLog.open(path)
        journal = cls(log, clock)
        try:
            for payload in payloads:
                journal._replay(json.loads(payload))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            log.close()
            raise JournalCorrupt(f"a whole record makes no sense: {exc!r}") from exc
        if not journal.journal_id:
            journal.journal_id = secrets.token_hex(16)
            journal._append({"t": "journal", "v": 1, "id": journal.journal_id})
        journal._compacted_size = min(log.size, COMPACT_BYTES)
        return journal

    def find(self, attempt_id: str) -> Entry | None:
        """Returns what is known of an attempt."""
        return self._entries.get(attempt_id)

    def unacknowledged(self) -> Iterator[Entry]:
        """Yields attempts whose end the orchestrator has not confirmed, oldest first."""
        return (entry for entry in list(self._entries.values()) if not entry.acked_at)

    def history(self) -> Iterator[Entry]:
        """Yields every attempt that is remembered, tombstones included, oldest first."""
        return iter(list(self._entries.values()))

    def starts(self, group: str) -> int:
        """Returns how many attempts of a group have started on this agent."""
        return self._starts[group]

    def last_started(self, group: str) -> Report | None:
        """Returns the attempt of a group that started last on this agent."""
        attempt_id = self._last_started.get(group)
        entry = self._entries.get(attempt_id) if attempt_id else None
        return entry.report if entry else None

    def pin_incarnation(self, incarnation: str) -> None:
        """Binds this agent to a store; epochs start anew with a new store."""
        self._apply_and_append({"t": "incarnation", "value": incarnation})

    def leave_store(self) -> list[str]:
        """Belongs to no store any more; returns the attempts whose ends were never confirmed.

        They stay known, so that nothing can start twice, but are not reported to the next store.
        """
        left = [entry.report.attempt_id for entry in self.unacknowledged()]
        for attempt_id in left:
            self.acknowledge(attempt_id)
        self.pin_incarnation("")
        return left

    async def accept_epoch(self, epoch: int) -> None:
        """Remembers the newest session epoch, durably: a lower one is refused for ever after."""
        self._apply_and_append({"t": "epoch", "epoch": epoch})
        await self._log.sync()

    async def executing(self, entry: Entry) -> None:
        """Records that effects may begin; for a change only returns when that is on disk."""
        failpoints.hit("executing.before_fsync")
        self._apply_and_append(entry.to_json())
        if not entry.read_only:
            await self._log.sync()

    async def final(self, entry: Entry) -> None:
        """Records how an attempt ended, or that it never will start; durably unless it reads."""
        self._apply_and_append(entry.to_json())
        if not entry.read_only or entry.report.state == "not_started":
            await self._log.sync()

    def acknowledge(self, attempt_id: str) -> None:
        """Turns a reported attempt into a tombstone; unknown or running ones are left alone."""
        entry = self._entries.get(attempt_id)
        if entry is None or entry.acked_at or not entry.report.final:
            return
        failpoints.hit("forget.mid")
        now = self._clock()
        kept = READ_KEPT if entry.read_only else CHANGE_KEPT
        self._apply_and_append(
            {
                "t": "ack",
                "attempt_id": attempt_id,
                "at": now,
                "keep_until": max(entry.keep_until, now + kept.total_seconds()),
            }
        )
        self._compact_if_worth_it()

    def adoptable(self, boot_id: str) -> list[Entry]:
        """Returns what may still run, or has ended, under supervisors of an earlier process."""
        return [
            entry
            for entry in self._entries.values()
            if entry.supervised and entry.boot_id == boot_id and not entry.report.final
        ]

    def unknown_after_crash(self, boot_id: str, adopted: Collection[str] = ()) -> list[Report]:
        """Marks what was executing when the last process ended as unknown and returns it.

        Args:
            boot_id: Boot of the machine now; said in the message when it differs.
            adopted: Attempts that are taken up instead.
        """
        found = []
        for entry in list(self._entries.values()):
            if entry.report.final or entry.report.attempt_id in adopted:
                continue
            how = (
                "the agent was killed" if entry.boot_id == boot_id else "the machine was restarted"
            )
            report = replace(
                entry.report,
                state="unknown",
                effects="none" if entry.read_only else "possible",
                error=Failure(
                    "AGENT_DIED", f"{how} while this ran; its end was not seen", "unknown"
                ),
                end_time=self._clock(),
            )
            self._apply_and_append(replace(entry, report=report).to_json())
            found.append(report)
        return found

    def amend(self, report: Report) -> None:
        """Replaces the report of an attempt that is not acknowledged."""
        entry = self._entries[report.attempt_id]
        if not entry.acked_at:
            self._apply_and_append(replace(entry, report=report).to_json())

    def restore_reserve(self) -> bool:
        """Takes up the reserve for a full disk again; tells whether it is there."""
        return self._log.restore_reserve()

    async def sync(self) -> None:
        """Waits until all records are on disk."""
        await self._log.sync()

    def close(self) -> None:
        """Syncs and closes the file."""
        self._log.close()

    def _apply_and_append(self, record: dict[str, Any]) -> None:
        self._append(record)
        self._replay(record)

    def _append(self, record: dict[str, Any]) -> None:
        # Only a promise to start may be refused for want of room; everything else must be kept.
        promise = record["t"] == "entry" and record["report"]["state"] == "running"
        self._log.append(json.dumps(record, separators=(",", ":")).encode(), urgent=not promise)

    def _replay(self, record: dict[str, Any]) -> None:
        match record["t"]:
            case "journal":
                self.journal_id = record["id"]
            case "epoch":
                self.epoch = record["epoch"]
            case "incarnation":
                self.incarnation = record["value"]
                self.epoch = 0
            case "entry":
                self._put(Entry.from_json(record))
            case "ack":
                self._bury(record["attempt_id"], record["at"], record["keep_until"])
            case other:
                raise ValueError(f"record of type {other!r}")

    def _put(self, entry: Entry) -> None:
        before = self._entries.get(entry.report.attempt_id)
        if entry.started and not (before and before.started):
            self._starts[entry.group] += 1
            self._last_started[entry.group] = entry.report.attempt_id
        self._entries[entry.report.attempt_id] = entry

    def _bury(self, attempt_id: str, at: float, keep_until: float) -> None:
        entry = self._entries[attempt_id]
        self._entries[attempt_id] = replace(
            entry, report=entry.report.without_output(), acked_at=at, keep_until=keep_until
        )
        if entry.read_only:
            self._reads_acked[attempt_id] = None
            while len(self._reads_acked) > READS_KEPT:
                oldest = next(iter(self._reads_acked))
                self._forget(oldest)

    def _forget(self, attempt_id: str) -> None:
        self._reads_acked.pop(attempt_id, None)
        entry = self._entries.pop(attempt_id, None)
        if entry is not None and entry.started:
            self._starts[entry.group] -= 1
            if self._starts[entry.group] <= 0:
                del self._starts[entry.group]
                self._last_started.pop(entry.group, None)

    def _compact_if_worth_it(self) -> None:
        if self._log.size < self._compacted_size + COMPACT_BYTES or self._log.syncing:
            return
        try:
            self.compact()
        except OSError as exc:
            # The old file is whole and stays in use; a full disk must not stop acknowledgements.
            self._compacted_size = self._log.size
            _log.error("journal: could not be rewritten: %s", exc)

    def compact(self) -> None:
        """Forgets expired tombstones and rewrites the file with the rest."""
        now = self._clock()
        for attempt_id, entry in list(self._entries.items()):
            if entry.acked_at and entry.keep_until < now:
                self._forget(attempt_id)
        failpoints.hit("journal.rotate")
        records: list[dict[str, Any]] = [
            {"t": "journal", "v": 1, "id": self.journal_id},
            {"t": "incarnation", "value": self.incarnation},
            {"t": "epoch", "epoch": self.epoch},
            *(entry.to_json() for entry in self._entries.values()),
        ]
        self._log.rewrite(json.dumps(record, separators=(",", ":")).encode() for record in records)
        self._compacted_size = self._log.size
