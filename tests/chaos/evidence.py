"""What a run leaves behind: kept as files, read again by the checker, now or years later."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from opsconductor.agent.record_log import decode
from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan
from opsconductor.rpc import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Row = dict[str, Any]
TABLES = {
    "events": "execution_id, seq, type, time, data, hash",
    "executions": "execution_id, state, last_seq, head_hash, open",
    "attempts": "attempt_id, execution_id, step_id, kind, number, agent_id, session_epoch, state",
    "output": 'attempt_id, stream, "offset", data',
    "agents": "agent_id, name, session_epoch, quarantined",
    "approvals": "approval_id, execution_id, state",
    "meta": "key, value",
}

SEEN_LATE = 30.0
"""Seconds after which every process has seen a shift; shifts are of an hour at least."""


def dump_sqlite(store: Path, to: Path) -> None:
    """Writes the tables of a SQLite store as JSON lines."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.row_factory = sqlite3.Row
        with to.open("w") as file:
            for table, columns in TABLES.items():
                for row in connection.execute(f"SELECT {columns} FROM {table}"):
                    _write(file, table, dict(row))


async def dump_postgres(url: str, to: Path) -> None:
    """Writes the tables of a PostgreSQL store as JSON lines."""
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        with to.open("w") as file:
            for table, columns in TABLES.items():
                for row in await connection.fetch(f"SELECT {columns} FROM {table}"):
                    _write(file, table, dict(row))
    finally:
        await connection.close()


def _write(file: Any, table: str, row: Row) -> None:
    ready = {
        name: {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in row.items()
    }
    file.write(json.dumps([table, ready]) + "\n")


@dataclass(frozen=True)
class Happened:
    """One event as the store has it."""

    execution_id: str
    seq: int
    type: str
    time: float
    """Seconds since 1970, after shifts of the clock are taken out."""
    time_us: int
    data: bytes
    hash: str

    @cached_property
    def body(self) -> dict[str, Any]:
        """Its fields."""
        value: dict[str, Any] = canonical.loads(self.data)
        return value


@dataclass
class Story:
    """One execution as its events tell it."""

    execution_id: str
    events: list[Happened]
    row: Row

    @cached_property
    def plan(self) -> CompiledPlan:
        """The plan as submitted."""
        return CompiledPlan.from_json(self.events[0].body["compiled"])

    def of(self, *types: str) -> Iterator[Happened]:
        """Yields events of some types, in order."""
        return (event for event in self.events if event.type in types)

    @cached_property
    def recorded(self) -> list[ev.Recorded]:
        """The events as the domain knows them."""
        from datetime import UTC, datetime

        return [
            ev.Recorded(
                item.seq,
                datetime.fromtimestamp(item.time_us / 1e6, UTC),
                ev.from_json(item.type, item.body),
            )
            for item in self.events
        ]


@dataclass
class Evidence:
    """Everything the checker looks at."""

    folder: Path
    ledger: list[Row]
    stories: dict[str, Story]
    attempts: dict[str, Row]
    output: dict[tuple[str, int], list[tuple[int, bytes]]]
    agents: dict[str, Row]
    journals: dict[str, list[Row]]
    """Records of each agent's journal, by folder name; several files in the order they were."""
    world: list[Row]
    approvals: dict[str, Row] = field(default_factory=dict)
    survivors: dict[str, str] = field(default_factory=dict)
    """Processes of steps that lived at the end, and their attempts."""

    @classmethod
    def load(cls, folder: Path) -> Evidence:
        """Reads a run folder."""
        tables: dict[str, list[Row]] = {name: [] for name in TABLES}
        for line in (folder / "store.jsonl").read_text().splitlines():
            table, row = json.loads(line)
            tables[table].append({name: _value(value) for name, value in row.items()})
        output: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
        for row in sorted(tables["output"], key=lambda row: row["offset"]):
            key = (row["attempt_id"], row["stream"])
            output.setdefault(key, []).append((row["offset"], row["data"]))
        survivors = folder / "survivors.json"
        world = _lines(folder / "world.jsonl")
        jumps = [entry for entry in world if entry["what"] == "clock jump"]
        return cls(
            folder=folder,
            ledger=_lines(folder / "ledger"),
            stories=_stories(tables, jumps),
            attempts={row["attempt_id"]: row for row in tables["attempts"]},
            output=output,
            agents={row["agent_id"]: row for row in tables["agents"]},
            journals={
                path.name: journal_records(path, jumps)
                # The word of an agent counts for more than that of its copies.
                for path in sorted(folder.glob("agent-*/"), key=lambda path: "." not in path.name)
            },
            world=world,
            approvals={row["approval_id"]: row for row in tables["approvals"]},
            survivors=json.loads(survivors.read_text()) if survivors.exists() else {},
        )

    @cached_property
    def starts(self) -> dict[str, list[Row]]:
        """Starts in the ledger, by attempt."""
        return _grouped(entry for entry in self.ledger if entry["t"] == "start")

    @cached_property
    def ends(self) -> dict[str, list[Row]]:
        """Ends in the ledger, by attempt."""
        return _grouped(entry for entry in self.ledger if entry["t"] == "end")

    def happened(self, what: str) -> list[Row]:
        """Returns what was noted of one kind."""
        return [entry for entry in self.world if entry["what"] == what]

    @cached_property
    def restored(self) -> bool:
        """Whether the store was put back to an older state."""
        return bool(self.happened("store restored"))

    def lost(self, execution_id: str) -> bool:
        """Tells whether an execution went with the newer state of a store that was restored."""
        return self.restored and execution_id not in self.stories

    def forgotten(self, wall: float) -> bool:
        """Tells whether the store went back to an older state after a moment."""
        return any(entry["wall"] > wall for entry in self.happened("store restored"))

    @cached_property
    def grants(self) -> dict[str, Happened]:
        """Grants by attempt."""
        return {
            event.body["attempt_id"]: event
            for story in self.stories.values()
            for event in story.of("attempt_granted")
        }

    @cached_property
    def finishes(self) -> dict[str, Happened]:
        """Ends on record by attempt."""
        return {
            event.body["attempt_id"]: event
            for story in self.stories.values()
            for event in story.of("attempt_finished")
        }

    def changes(self, execution_id: str, step_id: str) -> bool:
        """Tells whether a step may change something."""
        story = self.stories[execution_id]
        return any(
            step.step_id == step_id and step.changes
            for step in (*story.plan.steps, *story.plan.rollback)
        )


def journal_records(folder: Path, jumps: list[Row]) -> list[Row]:
    """Returns the records of all journals an agent has had, oldest first."""
    files = [*sorted(folder.glob("journal.lost-*")), folder / "journal"]
    records: list[Row] = [
        json.loads(payload)
        for file in files
        if file.exists()
        for payload in decode(file.read_bytes())[0]
    ]
    for record in records:
        for name in ("at", "acked_at"):
            if record.get(name):
                record[name] = true_time(record[name], jumps)
    return records


def true_time(seconds: float, jumps: list[Row]) -> float:
    """Returns what the clock would have said had it not been shifted then."""
    for jump in jumps:
        began, ended = jump["began"] + jump["seconds"], jump["ended"] + jump["seconds"]
        if began - SEEN_LATE <= seconds <= ended + SEEN_LATE:
            return float(seconds - jump["seconds"])
    return seconds


def _stories(tables: dict[str, list[Row]], jumps: list[Row]) -> dict[str, Story]:
    rows = {row["execution_id"]: row for row in tables["executions"]}
    events: dict[str, list[Happened]] = {}
    for row in sorted(tables["events"], key=lambda row: (row["execution_id"], row["seq"])):
        events.setdefault(row["execution_id"], []).append(
            Happened(
                row["execution_id"],
                row["seq"],
                row["type"],
                true_time(row["time"] / 1e6, jumps),
                row["time"],
                row["data"],
                row["hash"],
            )
        )
    return {id: Story(id, found, rows.get(id, {})) for id, found in events.items()}


def _grouped(entries: Any) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for entry in entries:
        found.setdefault(entry["attempt"], []).append(entry)
    return found


def _lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _value(value: Any) -> Any:
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value
