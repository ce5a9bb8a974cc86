"""Why nothing is granted, and what a person can do about it, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.cli import trust
from opsconductor.v1.agent_admin_service_pb2 import Agent, SafeMode

if TYPE_CHECKING:
    from helpers.opsctl import Opsctl
    from helpers.scripted_orchestrator import Script


def test_an_unconfirmed_regression_names_both_ways_out() -> None:
    mode = SafeMode(active=True, reason="agent a1 has seen session 9")
    assert trust.in_words(mode) == "SAFE MODE: agent a1 has seen session 9"
    assert "opsctl agents confirm-restore --reason" in trust.remedy(mode)
    assert "find the newer store" in trust.remedy(mode)


def test_a_confirmed_restore_names_who_is_awaited_and_how_to_go_on_without() -> None:
    mode = SafeMode(
        active=True,
        confirmed=True,
        awaited_agents=["a1", "a2"],
        reason="waits for the journal of a1, a2 after the store was restored: a1 is not connected",
    )
    assert "work waits for the journal of a1, a2" in trust.in_words(mode)
    assert "a1 is not connected" in trust.in_words(mode)
    assert "--without a1 --without a2" in trust.remedy(mode)
    assert "paused" in trust.remedy(mode)


def test_an_agent_says_why_it_and_which_of_its_tools_are_kept_from_work() -> None:
    agent = Agent(state_reason="it was copied", quarantined_tools={"ping": "it died twice"})
    assert trust.reason_of(agent) == "it was copied; tool ping: it died twice"
    assert trust.reason_of(Agent()) == ""


def test_a_retired_agent_leaves_steps_to_look_at(opsctl: Opsctl, script: Script) -> None:
    script.agents.append(Agent(name="edge", agent_id="agt_1"))
    result = opsctl("agents", "retire", "edge", "--reason", "its host burnt")
    assert result.stdout == "edge retired\n"
    assert "step one of exec_1 is unknown" in result.stderr
    assert "opsctl runs get exec_1" in result.stderr
    assert opsctl("agents", "retire", "edge").exit_code == 2
