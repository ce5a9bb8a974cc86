"""A person who decides about an unknown outcome is shown what is known of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from helpers.scripted_orchestrator import EXECUTION
from opsconductor.v1 import execution_service_pb2 as executions

if TYPE_CHECKING:
    from helpers.opsctl import Opsctl
    from helpers.scripted_orchestrator import Script


def of_unknown_outcome(script: Script) -> None:
    step = script.execution.steps[0]
    step.state = executions.STEP_STATE_UNKNOWN
    attempt = step.attempts.add(
        attempt_id="att_1", kind="forward", number=1, state=executions.ATTEMPT_STATE_UNKNOWN
    )
    attempt.agent_id = "agent-7"
    attempt.error.code, attempt.error.message = "AGENT_RESTARTED", "the agent was killed meanwhile"
    script.pieces += [
        executions.ReadOutputResponse(
            step_id="one",
            attempt_id="att_1",
            stream=executions.OUTPUT_STREAM_STDOUT,
            data="".join(f"line {number}\n" for number in range(30)).encode(),
        )
    ]


def test_resolving_shows_what_is_known_of_the_attempt(opsctl: Opsctl, script: Script) -> None:
    of_unknown_outcome(script)
    command = ("runs", "resolve", EXECUTION, "one", "--as", "failed", "--reason", "looked")
    shown = opsctl(*command)
    assert shown.exit_code == 0
    for fact in (
        "att_1",
        "agent-7",
        "the agent was killed meanwhile",
        "line 29",
        "counts as failed",
    ):
        assert fact in shown.stdout
    assert "line 19" not in shown.stdout
    assert json.loads(opsctl(*command, "-o", "json").stdout)["execution_id"] == EXECUTION


@pytest.mark.parametrize(("step", "code"), [("one", 1), ("other", 2)])
def test_there_is_nothing_to_resolve_where_nothing_is_unknown(
    opsctl: Opsctl, script: Script, step: str, code: int
) -> None:
    result = opsctl("runs", "resolve", EXECUTION, step, "--as", "failed", "--reason", "x")
    assert result.exit_code == code
    assert not any(isinstance(call, executions.ResolveUnknownRequest) for call in script.calls)


def test_resolving_an_unknown_outcome_needs_a_reason(opsctl: Opsctl, script: Script) -> None:
    of_unknown_outcome(script)
    command = ("runs", "resolve", EXECUTION, "one", "--as", "failed")
    assert opsctl(*command).exit_code == 2
    assert opsctl(*command, "--reason", "looked at it").exit_code == 0
    assert script.calls[-1].resolution == executions.UNKNOWN_RESOLUTION_FAILED
