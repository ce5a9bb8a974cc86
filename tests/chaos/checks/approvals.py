"""Was what ran allowed: every signature again, with the real ssh-keygen."""

from __future__ import annotations

import subprocess
import tempfile
from typing import TYPE_CHECKING

from chaos.checks.violation import Violation
from opsconductor.rpc import canonical
from opsconductor.rpc.statements import (
    NAMESPACE,
    ApprovalStatement,
    StatementInvalid,
    parse_statement,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chaos.evidence import Evidence, Row, Story

QUORUM = 1
LATE = 5.0
"""Seconds after which a person's call may return that let a step start meanwhile."""


def authorised(evidence: Evidence) -> Iterator[Violation]:
    """I11: each change that started was approved by people, for this plan and execution."""
    signers = evidence.folder / "allowed_signers"
    approvers: dict[str, dict[str, set[str]]] = {}
    for starts in evidence.starts.values():
        entry = starts[0]
        if entry["role"] == "read" or evidence.lost(entry["execution"]):
            continue
        story = evidence.stories.get(entry["execution"])
        if story is None:
            yield Violation("I11", f"{entry['key']} of nobody's plan started", entry["execution"])
            continue
        by_step = approvers.get(story.execution_id)
        if by_step is None:
            by_step = approvers[story.execution_id] = _approvers(story, signers)
        people = by_step.get("*", set()) | by_step.get(entry["step"], set())
        if len(people) < QUORUM and not _forgotten(evidence, entry):
            text = f"{entry['step']} started with {len(people)} of {QUORUM} valid signatures"
            yield Violation("I11", text, story.execution_id, entry["wall"])


def _forgotten(evidence: Evidence, entry: Row) -> bool:
    """Tells whether the approval of a start went with the newer state of a restored store."""
    return evidence.forgotten(entry["wall"]) and any(
        said["execution"] == entry["execution"] and said["wall"] < entry["wall"] + LATE
        for said in evidence.happened("approved")
    )


def _approvers(story: Story, signers: Path) -> dict[str, set[str]]:
    """Returns who validly approved which steps of this execution's plan."""
    digest = canonical.digest(canonical.MANIFEST_DOMAIN, story.plan.manifest_bytes)
    found: dict[str, set[str]] = {}
    for event in story.of("decision_recorded"):
        statement, signature = event.body["statement"], event.body["signature"]
        if event.body["kind"] != "approve" or not statement:
            continue
        try:
            said = parse_statement(statement.encode())
        except StatementInvalid:
            continue
        if (
            isinstance(said, ApprovalStatement)
            and said.execution_id == story.execution_id
            and said.plan_digest == digest
            and said.approver == event.body["person"]
            and ssh_keygen_agrees(statement.encode(), signature, said.approver, signers)
        ):
            for step_id in said.steps:
                found.setdefault(step_id, set()).add(said.approver)
    return found


def ssh_keygen_agrees(statement: bytes, signature: str, person: str, signers: Path) -> bool:
    """Tells whether ``ssh-keygen -Y verify`` accepts a signature."""
    with tempfile.NamedTemporaryFile("w", suffix=".sig") as file:
        file.write(signature)
        file.flush()
        done = subprocess.run(
            [
                *("ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", person),
                *("-n", NAMESPACE, "-s", file.name),
            ],
            input=statement,
            capture_output=True,
            check=False,
        )
    return done.returncode == 0
