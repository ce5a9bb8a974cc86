"""Do the agents' own memories agree with the store: unknowns, epochs, acknowledgements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.checks.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.evidence import Evidence, Happened, Row, Story

ACKNOWLEDGED_EARLY = 0.2
TTL_SLACK = 5.0
"""Seconds an honest start may take beyond what fences allow, on a machine that is busy."""


def honest_unknown(evidence: Evidence) -> Iterator[Violation]:
    """I7: an unknown change is unknown to its agent too, and waits for a person."""
    known = states_known(evidence)
    lost = bool(evidence.happened("journal lost"))
    copied = _during_copies(evidence)
    for attempt_id, finish in evidence.finishes.items():
        if not _unknown_change(evidence, finish):
            continue
        states = known.get(attempt_id, set())
        honest = (
            "unknown" in states
            or (lost and states <= {"running"})
            or finish.execution_id in copied  # whichever connected, the other's journal was lost
        )
        if not honest:
            said = " and ".join(sorted(states)) or "nothing"
            text = f"{attempt_id} is unknown, its agent says {said}"
            yield Violation("I7", text, finish.execution_id)
    for story in evidence.stories.values():
        yield from _waiting_for_people(evidence, story)


def _during_copies(evidence: Evidence) -> set[str]:
    """Returns the executions that ran while an agent and its copy shared one identity."""
    rounds = {e["round"] for e in evidence.happened("injected") if e["fault"] == "copied_agent"}
    return {e["execution"] for e in evidence.happened("submitted") if e["round"] in rounds}


def _unknown_change(evidence: Evidence, event: Happened) -> bool:
    if event.type != "attempt_finished" or event.body["state"] != "unknown":
        return False
    grant = evidence.grants.get(event.body["attempt_id"])
    return grant is not None and evidence.changes(event.execution_id, grant.body["step_id"])


def _waiting_for_people(evidence: Evidence, story: Story) -> Iterator[Violation]:
    waiting: dict[tuple[str, str], str] = {}
    for event in story.events:
        body = event.body
        if _unknown_change(evidence, event):
            grant = evidence.grants[body["attempt_id"]].body
            waiting[grant["step_id"], grant["kind"]] = body["attempt_id"]
        elif event.type == "unknown_resolved":
            waiting = {key: id for key, id in waiting.items() if key[0] != body["step_id"]}
        elif event.type == "rollback_started":
            waiting = {key: id for key, id in waiting.items() if key[1] != "undo"}
        elif event.type == "attempt_granted" and (body["step_id"], body["kind"]) in waiting:
            before = waiting[body["step_id"], body["kind"]]
            text = f"{body['attempt_id']} was granted after {before}, which is unknown"
            yield Violation("I7", text, story.execution_id)


def states_known(evidence: Evidence) -> dict[str, set[str]]:
    """Returns how each attempt ended as each journal has it: an agent's own, and of its copies."""
    found: dict[str, set[str]] = {}
    for records in evidence.journals.values():
        last = {
            record["report"]["attempt_id"]: record["report"]["state"]
            for record in records
            if record["t"] == "entry"
        }
        for attempt_id, state in last.items():
            found.setdefault(attempt_id, set()).add(state)
    return found


def final_states(evidence: Evidence) -> dict[str, str]:
    """Returns how each attempt ended as agents remember it."""
    return {
        record["report"]["attempt_id"]: record["report"]["state"]
        for records in evidence.journals.values()
        for record in records
        if record["t"] == "entry"
    }


def fenced(evidence: Evidence) -> Iterator[Violation]:
    """I9: epochs only rise, at the agents and in the store."""
    for name, records in evidence.journals.items():
        epoch = 0
        for record in records:
            if record["t"] in ("incarnation", "journal"):
                epoch = 0
            elif record["t"] == "epoch":
                if record["epoch"] < epoch:
                    text = f"{name} accepted session {record['epoch']} after {epoch}"
                    yield Violation("I9", text)
                epoch = record["epoch"]
    if len(evidence.happened("replica")) > 1:
        return  # sessions of several replicas lie side by side
    highest: dict[str, int] = {}
    found = recovered(evidence)
    granted = sorted(
        # What a restored store had forgotten keeps the session in which it was granted.
        (event for attempt_id, event in evidence.grants.items() if attempt_id not in found),
        key=lambda event: event.time,
    )
    for event in granted:
        agent, epoch = event.body["agent_id"], event.body["session_epoch"]
        if epoch < highest.get(agent, 0):
            text = f"granted in session {epoch} of {agent} after {highest[agent]}"
            yield Violation("I9", text, event.execution_id)
        highest[agent] = max(epoch, highest.get(agent, 0))


def recovered(evidence: Evidence) -> set[str]:
    """Returns the attempts that a restored store learned of from agents' journals."""
    return {
        event.body["attempt_id"]
        for story in evidence.stories.values()
        for event in story.of("attempt_recovered")
    }


def fresh(evidence: Evidence) -> Iterator[Violation]:
    """I9: nothing starts in its first session longer after its grant than ``start_ttl`` allows."""
    lease = evidence.world[0].get("lease", 20.0)
    accepted = _epochs_of_starts(evidence)
    for attempt_id, starts in evidence.starts.items():
        grant = evidence.grants.get(attempt_id)
        if grant is None:
            continue
        age = starts[0]["wall"] - grant.time
        same = accepted.get(attempt_id) == grant.body["session_epoch"]
        if same and age > lease + TTL_SLACK and starts[0]["role"] != "read":
            text = f"{attempt_id} started {age:.1f} s after its grant, in the same session"
            yield Violation("I9", text, grant.execution_id)


def _epochs_of_starts(evidence: Evidence) -> dict[str, int]:
    return {
        record["report"]["attempt_id"]: record["report"].get("session_epoch", 0)
        for records in evidence.journals.values()
        for record in records
        if record["t"] == "entry" and record.get("started")
    }


def acknowledged_is_durable(evidence: Evidence) -> Iterator[Violation]:
    """I22: what an agent was told is on disk is in the store, and was there before it was told."""
    if evidence.restored:
        return
    final = final_states(evidence)
    for name, records in evidence.journals.items():
        for record in records:
            attempt_id, at = _acknowledged(record)
            if not attempt_id:
                continue
            finish = evidence.finishes.get(attempt_id)
            if finish is None:
                if attempt_id in evidence.attempts:
                    yield Violation("I22", f"{attempt_id} was acknowledged to {name}, never stored")
                continue
            early = finish.time - at
            if early > ACKNOWLEDGED_EARLY:
                text = f"{attempt_id} was acknowledged {early:.2f} s before it was stored"
                yield Violation("I22", text, finish.execution_id)
            if final.get(attempt_id) == "completed" and finish.body["state"] not in (
                "completed",
                "unknown",
            ):
                text = f"{attempt_id} completed at {name}, the store says {finish.body['state']}"
                yield Violation("I22", text, finish.execution_id)


def _acknowledged(record: Row) -> tuple[str, float]:
    if record["t"] == "ack":
        return record["attempt_id"], record["at"]
    if record["t"] == "entry" and record.get("acked_at"):
        return record["report"]["attempt_id"], record["acked_at"]
    return "", 0.0


def submitted_is_durable(evidence: Evidence) -> Iterator[Violation]:
    """I22: what the workload was told was accepted or approved is in the store."""
    if evidence.restored:
        return
    for entry in evidence.happened("submitted"):
        if entry["execution"] not in evidence.stories:
            yield Violation("I22", f"{entry['key']} was accepted and is not stored")
    for entry in evidence.happened("approved"):
        row = evidence.approvals.get(entry["approval"])
        if row is None or row["state"] == "pending":
            yield Violation("I22", f"{entry['approval']} was approved and is not stored")


def regression_seen(evidence: Evidence) -> Iterator[Violation]:
    """I14: a store that went back grants nothing before an operator has confirmed it."""
    confirmed = [entry["wall"] for entry in evidence.happened("restore confirmed")]
    for entry in evidence.happened("store restored"):
        until = min((wall for wall in confirmed if wall > entry["wall"]), default=entry["wall"])
        for event in evidence.grants.values():
            if entry["wall"] < event.time < until:
                text = f"{event.body['attempt_id']} was granted by a store that had gone back"
                yield Violation("I14", text, event.execution_id)
