"""Did everything come to an end, quietly, and within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.checks.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.evidence import Evidence

RESTS = frozenset(
    {
        *("completed", "failed", "timed_out", "unreachable", "cancelled", "cancel_unverified"),
        *("rejected", "expired", "rolled_back", "rollback_failed"),
        *("attention_required", "approval_required"),
    }
)
AT_ONCE, A_MOMENT = 0.05, 1.0
"""Seconds by which the clocks of two lines, and the writing of a line, may be late."""
MEMORY = 500 * 1024 * 1024


def nothing_lost(evidence: Evidence) -> Iterator[Violation]:
    """I1: everything that was accepted has ended or waits for a person, in time."""
    for story in evidence.stories.values():
        if story.row.get("state") not in RESTS:
            text = f"it is {story.row.get('state')} at the end"
            yield Violation("I1", text, story.execution_id)
    for entry in evidence.happened("unsettled"):
        found = evidence.stories.get(entry["execution"])
        if found and found.row.get("state") in RESTS - {"attention_required"}:
            yield Violation("I1", "it was not settled in time", entry["execution"], entry["wall"])
    for entry in evidence.happened("workload"):
        yield Violation("I1", f"a call never succeeded: {entry['error']}", "", entry["wall"])


def cancelled_is_quiet(evidence: Evidence) -> Iterator[Violation]:
    """I13: after the word cancelled nothing starts and no process is left."""
    for story in evidence.stories.values():
        for event in story.of("execution_finished"):
            if event.body["state"] != "cancelled":
                continue
            for entry in evidence.ledger:
                if entry["execution"] != story.execution_id or _undoes(entry["key"]):
                    continue
                late = entry["wall"] - event.time
                if entry["t"] == "start" and late > AT_ONCE:
                    text = f"{entry['key']} started after it was cancelled"
                    yield Violation("I13", text, story.execution_id, entry["wall"])
                # A restored store may learn only later what ran; then it is taken back.
                elif late > A_MOMENT and not evidence.restored:
                    text = f"{entry['key']} still ran {late:.1f} s after it was cancelled"
                    yield Violation("I13", text, story.execution_id, entry["wall"])
    for pid, attempt_id in evidence.survivors.items():
        finish = evidence.finishes.get(attempt_id)
        if finish and finish.body["state"] in ("cancelled", "timed_out"):
            text = f"process {pid} of {attempt_id} lives, which is {finish.body['state']}"
            yield Violation("I13", text, finish.execution_id)


def _undoes(key: str) -> bool:
    return key.endswith(".undo")


def bounded(evidence: Evidence) -> Iterator[Violation]:
    """I17: nobody's memory grows beyond its bound."""
    for entry in evidence.happened("rss"):
        for name, size in {"orchestrator": entry["orchestrator"], **entry["agents"]}.items():
            if size > MEMORY:
                yield Violation("I17", f"{name} holds {size >> 20} MiB", "", entry["wall"])


def alive_again(evidence: Evidence) -> Iterator[Violation]:
    """I20: after each fault all sessions are held again within a minute, and no grant is stuck."""
    for entry in evidence.happened("healed"):
        if not entry["whole"]:
            text = f"not everything was connected a minute after {entry['fault']}"
            yield Violation("I20", text, "", entry["wall"])
    for row in evidence.attempts.values():
        story = evidence.stories.get(row["execution_id"])
        ended = story is not None and story.row.get("state") in RESTS - {"attention_required"}
        if row["state"] in ("granted", "running") and ended:
            text = f"{row['attempt_id']} is still {row['state']}"
            yield Violation("I20", text, row["execution_id"])
