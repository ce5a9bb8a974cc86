"""One order that nothing can be made of must not end the agent, its session, or its honesty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from helpers.agents import Agent
from helpers.orders import CHANGE, READ, Orchestrator, Person, body_of, call_of
from opsconductor.agent.credentials import CredentialFile
from opsconductor.agent.report import MAX_MESSAGE_CHARACTERS, Failure

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from opsconductor.agent.executors.base import Call, Outcome, Sink

ALICE = Person.new("alice")


@pytest.fixture
async def agent(tmp_path: Path) -> Any:
    made = Agent(tmp_path, ALICE)
    yield made
    made.close()


async def explodes(_: Call, __: Sink, ___: asyncio.Event) -> Outcome:
    raise RuntimeError("a defect of a third party")


async def test_a_defect_before_the_start_is_not_started_and_the_agent_lives(agent: Agent) -> None:
    orchestrator = Orchestrator(people=(ALICE,))
    body = body_of(CHANGE, precheck=call_of(READ))
    agent.executor.scripts.append(explodes)
    order = orchestrator.order(body)
    agent.worker.assign(order)
    report = await agent.final(order.attempt_id)
    assert (report.state, report.effects) == ("not_started", "none")
    assert report.error is not None
    assert report.error.code == "AGENT_DEFECT"
    assert not agent.worker.broken.is_set()
    other = orchestrator.order(body_of(CHANGE, "two"))
    agent.worker.assign(other)
    assert (await agent.final(other.attempt_id)).state == "completed"


def test_a_message_cannot_outgrow_a_record_of_the_journal() -> None:
    assert len(Failure("X", "€" * 1_000_000).message) == MAX_MESSAGE_CHARACTERS


def test_credentials_that_became_unsafe_are_refused_like_missing_ones(tmp_path: Path) -> None:
    path = tmp_path / "credentials.yaml"
    path.write_text("web: {kind: ssh, username: root, password: correct-horse}\n")
    path.chmod(0o600)
    credentials = CredentialFile(path)
    assert credentials("web").username == "root"
    path.chmod(0o644)
    with pytest.raises(LookupError, match="chmod 600"):
        credentials("web")
    assert "correct-horse" in set(credentials.secrets())


def test_secrets_of_a_changed_file_are_masked_at_once(tmp_path: Path) -> None:
    path = tmp_path / "credentials.yaml"
    credentials = CredentialFile(path)
    assert set(credentials.secrets()) == set()
    path.write_text("web: {kind: ssh, username: root, password: correct-horse}\n")
    path.chmod(0o600)
    assert "correct-horse" in set(credentials.secrets())
