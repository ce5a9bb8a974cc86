"""Did what ran run as often as it should, and only then: ledger against store."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from chaos.checks.journals import recovered
from chaos.checks.violation import Violation
from opsconductor.rpc import ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.evidence import Evidence, Happened, Row

CLOCKS = 0.05
"""Seconds by which two readings of one clock may seem to be in the wrong order."""


def at_most_once(evidence: Evidence) -> Iterator[Violation]:
    """I2: an attempt starts once; a change starts no more often than was authorised."""
    for attempt_id, starts in evidence.starts.items():
        if len(starts) > 1:
            yield _found("I2", starts[0], f"{attempt_id} started {len(starts)} times")
    counted = Counter(
        (entry["execution"], entry["step"], entry["key"])
        for entry in evidence.ledger
        if entry["t"] == "start" and entry["role"] == "change"
    )
    for (execution_id, step_id, key), count in counted.items():
        if evidence.lost(execution_id) and count == 1:
            continue
        allowed = _authorised(evidence, execution_id, step_id, key)
        if count > allowed:
            text = f"{key} started {count} times, {allowed} authorised"
            yield Violation("I2", text, execution_id)


def _authorised(evidence: Evidence, execution_id: str, step_id: str, key: str) -> int:
    story = evidence.stories.get(execution_id)
    if story is None:
        return 0
    if key.endswith(".undo"):
        # Each further try of an undo follows one that failed for certain.
        tries = [
            event
            for event in story.of("attempt_finished")
            if _is(evidence, event.body["attempt_id"], step_id, "undo")
            and event.body["state"] in ("failed", "timed_out")
        ]
        return 1 + len(tries)
    decided = [
        event
        for event in story.of("unknown_resolved")
        if event.body["step_id"] == step_id and event.body["resolution"] == "retry"
    ]
    return 1 + len(decided)


def _is(evidence: Evidence, attempt_id: str, step_id: str, kind: str) -> bool:
    grant = evidence.grants.get(attempt_id)
    return grant is not None and (grant.body["step_id"], grant.body["kind"]) == (step_id, kind)


def no_overlap(evidence: Evidence) -> Iterator[Violation]:
    """I3: nothing of one key runs beside itself; the kernel's lock says so."""
    for entry in evidence.ledger:
        if entry["t"] == "start" and entry["overlap"] and entry["role"] != "read":
            yield _found("I3", entry, f"{entry['key']} started while it was running")


def granted(evidence: Evidence) -> Iterator[Violation]:
    """I4: what started had been granted, before, under the id both sides derive."""
    found = recovered(evidence)
    for attempt_id, starts in evidence.starts.items():
        entry = starts[0]
        grant = evidence.grants.get(attempt_id)
        if grant is None and evidence.lost(entry["execution"]):
            continue
        if grant is None and evidence.forgotten(entry["wall"]) and attempt_id in found:
            continue
        if grant is None:
            yield _found("I4", entry, f"{attempt_id} started and was never granted")
            continue
        body = grant.body
        own = ids.attempt_id(grant.execution_id, body["step_id"], body["kind"], body["number"])
        if own != attempt_id:
            yield _found("I4", entry, f"{attempt_id} is not derived from its step: {own}")
        if entry["wall"] < grant.time - CLOCKS and not evidence.forgotten(entry["wall"]):
            yield _found("I4", entry, f"{attempt_id} started before its grant")


def no_false_success(evidence: Evidence) -> Iterator[Violation]:
    """I5: completed means one start, one end, and the end that was asked for."""
    for attempt_id, finish in evidence.finishes.items():
        if finish.body["state"] != "completed":
            continue
        starts = evidence.starts.get(attempt_id, [])
        ends = evidence.ends.get(attempt_id, [])
        good = len(starts) == 1 and len(ends) == 1 and ends[0]["exit"] == 0
        if not good:
            text = f"{attempt_id} completed with {len(starts)} starts, {len(ends)} ends"
            yield Violation("I5", text, finish.execution_id)


def no_false_clean(evidence: Evidence) -> Iterator[Violation]:
    """I6: not started, or without effects, means no start of a change."""
    for attempt_id, finish in evidence.finishes.items():
        clean = finish.body["state"] == "not_started" or finish.body["effects"] == "none"
        starts = evidence.starts.get(attempt_id, [])
        if clean and starts and starts[0]["role"] != "read":
            state = finish.body["state"]
            yield Violation("I6", f"{attempt_id} is {state} and started", finish.execution_id)
        if finish.body["state"] == "not_started" and starts and starts[0]["role"] == "read":
            yield Violation("I6", f"read {attempt_id} not_started, started", finish.execution_id)


def in_order(evidence: Evidence) -> Iterator[Violation]:
    """I12: what a step needs is complete, or left out by its own condition, before its grant."""
    for story in evidence.stories.values():
        met: set[str] = set()
        needs = {step.step_id: step.needs for step in story.plan.steps}
        for event in story.events:
            body = event.body
            if _meets(event):
                met.add(body["step_id"])
            elif event.type == "attempt_granted" and body["kind"] == "forward":
                missing = [need for need in needs.get(body["step_id"], ()) if need not in met]
                if missing:
                    text = f"{body['step_id']} was granted before {', '.join(missing)}"
                    yield Violation("I12", text, story.execution_id)


def _meets(event: Happened) -> bool:
    match event.type:
        case "step_finished":
            return bool(event.body["state"] == "completed")
        case "step_skipped":
            return bool(event.body["by_condition"])
        case "unknown_resolved":
            return bool(event.body["resolution"] == "completed")
    return False


def _found(invariant: str, entry: Row, text: str) -> Violation:
    return Violation(invariant, text, entry["execution"], entry["wall"])
