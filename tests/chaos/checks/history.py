"""Is the record itself legal: numbers, hashes, transitions, undo in its order."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from chaos.checks.violation import Violation
from opsconductor.orchestrator.domain.executions.fold import fold
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.evidence import Evidence, Happened, Story

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FINAL = frozenset({"completed", "failed", "timed_out", "cancelled", "rolled_back"})


def legal(evidence: Evidence) -> Iterator[Violation]:
    """I10: events are numbered without gaps and only take edges of the state tables."""
    for story in evidence.stories.values():
        numbers = [event.seq for event in story.events]
        if numbers != list(range(1, len(numbers) + 1)):
            yield Violation("I10", f"event numbers {numbers}", story.execution_id)
            continue
        ended: set[str] = set()
        for event in story.of("attempt_finished"):
            if event.body["attempt_id"] in ended:
                text = f"{event.body['attempt_id']} ended twice"
                yield Violation("I10", text, story.execution_id)
            ended.add(event.body["attempt_id"])
        try:
            state = fold(None, story.recorded)
        except (OpsConductorError, KeyError, ValueError) as error:
            yield Violation("I10", f"the events cannot be told: {error!r}", story.execution_id)
            continue
        if story.row and story.row["state"] != str(state.state):
            text = f"listed as {story.row['state']}, its events say {state.state}"
            yield Violation("I10", text, story.execution_id)


def chained(evidence: Evidence) -> Iterator[Violation]:
    """I15: the hash of every event is over the one before; the head is the last."""
    for story in evidence.stories.values():
        previous = ""
        for event in story.events:
            previous = _hash(previous, event)
            if previous != event.hash:
                yield Violation("I15", f"event {event.seq} was altered", story.execution_id)
                break
        else:
            head = (story.row.get("last_seq"), story.row.get("head_hash"))
            if head != (story.events[-1].seq, previous):
                yield Violation("I15", f"head {head} is not the last event", story.execution_id)


def _hash(previous: str, event: Happened) -> str:
    """Returns what an event's hash must be; written again here, not taken from the product."""
    at = (_EPOCH + timedelta(microseconds=event.time_us)).isoformat()
    frame = {
        "data": canonical.loads(event.data),
        "execution_id": event.execution_id,
        "seq": event.seq,
        "time": at,
        "type": event.type,
    }
    line = canonical.dumps(frame)
    return hashlib.sha256(b"opsc/audit/1\0" + previous.encode() + line).hexdigest()


def rolled_back_in_order(evidence: Evidence) -> Iterator[Violation]:
    """I18: only what may have had effects is undone, last first, never twice after success."""
    for story in evidence.stories.values():
        yield from _rollback(story)


def _rollback(story: Story) -> Iterator[Violation]:
    effects: dict[str, str] = {}
    steps: dict[str, tuple[str, str]] = {}
    undone: list[str] = []
    needs = {step.step_id: set(step.needs) for step in story.plan.steps}
    for event in story.events:
        body = event.body
        if event.type == "attempt_granted":
            steps[body["attempt_id"]] = (body["step_id"], body["kind"])
            if body["kind"] == "undo" and body["step_id"] in needs:
                yield from _undo_granted(story, body["step_id"], effects, undone)
        elif event.type == "attempt_finished":
            step_id, kind = steps.get(body["attempt_id"], ("", ""))
            if kind == "forward" and body["effects"] != "none":
                effects[step_id] = body["effects"]
            if kind == "undo" and body["state"] == "completed":
                dependents = {id for id, needed in needs.items() if step_id in needed}
                late = [id for id in dependents if id in undone_later(story, event.seq, steps)]
                if late:
                    text = f"{step_id} was undone before {', '.join(late)}"
                    yield Violation("I18", text, story.execution_id)
                undone.append(step_id)


def _undo_granted(
    story: Story, step_id: str, effects: dict[str, str], undone: list[str]
) -> Iterator[Violation]:
    if step_id not in effects:
        yield Violation("I18", f"{step_id} had no effects and is undone", story.execution_id)
    if step_id in undone:
        yield Violation("I18", f"{step_id} is undone a second time", story.execution_id)


def undone_later(story: Story, seq: int, steps: dict[str, tuple[str, str]]) -> set[str]:
    """Returns the steps whose undo was granted only after an event."""
    return {
        event.body["step_id"]
        for event in story.of("attempt_granted")
        if event.seq > seq and event.body["kind"] == "undo"
    }
