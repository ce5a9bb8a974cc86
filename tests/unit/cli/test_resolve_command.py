"""A person who decides about an unknown outcome is shown what is known of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from helpers.scripted_orchestrator import EXECUTION
from opsconductor.rpc.errors import NoAgent
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1 import tool_service_pb2 as tools

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


def with_a_probe(script: Script) -> executions.Execution:
    """Lets the step's tool declare a probe, which answers at once."""
    of_unknown_outcome(script)
    script.tools += [tools.Tool(name="ping", probe="service_status")]
    script.tools += [tools.Tool(name="service_status", definition=b"output: {parser: json}")]
    step = executions.StepStatus(
        step_id="probe", tool="service_status", state=executions.STEP_STATE_COMPLETED
    )
    step.output.struct_value.update({"ActiveState": "active", "MainPID": 4711})
    script.probe = executions.Execution(
        execution_id="exec_probe", state=executions.EXECUTION_STATE_COMPLETED, steps=[step]
    )
    return script.probe


RESOLVE = ("runs", "resolve", EXECUTION, "one", "--as", "failed", "--reason", "looked")


def test_resolving_shows_what_the_probe_of_the_tool_says(opsctl: Opsctl, script: Script) -> None:
    with_a_probe(script)
    shown = opsctl(*RESOLVE)
    assert shown.exit_code == 0, shown.stderr
    assert "service_status says (exec_probe):" in shown.stdout
    assert "4711" in shown.stdout
    assert shown.stdout.index("4711") < shown.stdout.index("as failed:")
    (asked,) = [call for call in script.calls if isinstance(call, executions.ProbeRequest)]
    assert (asked.execution_id, asked.step_id) == (EXECUTION, "one")


@pytest.mark.parametrize("words", [("--no-probe",), ("-o", "json")])
def test_who_needs_no_probe_starts_none(
    opsctl: Opsctl, script: Script, words: tuple[str, ...]
) -> None:
    with_a_probe(script)
    assert opsctl(*RESOLVE, *words).exit_code == 0
    assert not any(isinstance(call, executions.ProbeRequest) for call in script.calls)


def test_a_tool_without_a_probe_is_resolved_as_ever(opsctl: Opsctl, script: Script) -> None:
    of_unknown_outcome(script)
    script.tools += [tools.Tool(name="ping")]
    assert opsctl(*RESOLVE).exit_code == 0
    assert not any(isinstance(call, executions.ProbeRequest) for call in script.calls)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (executions.EXECUTION_STATE_FAILED, "failed: no such service"),
        (executions.EXECUTION_STATE_APPROVAL_REQUIRED, "approval_required"),
    ],
)
def test_a_probe_without_an_answer_says_so_and_the_decision_stands(
    opsctl: Opsctl, script: Script, state: Any, words: str
) -> None:
    probe = with_a_probe(script)
    probe.state, probe.error_message = state, "no such service"
    probe.steps[0].ClearField("output")
    shown = opsctl(*RESOLVE)
    assert shown.exit_code == 0
    assert words in shown.stdout
    assert isinstance(script.calls[-1], executions.ResolveUnknownRequest)


def test_a_probe_nobody_waits_for_any_more_is_cancelled(
    opsctl: Opsctl, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opsconductor.cli.resolving._PATIENCE_SECONDS", 0)
    with_a_probe(script).state = executions.EXECUTION_STATE_QUEUED
    shown = opsctl(*RESOLVE)
    assert shown.exit_code == 0
    assert "no answer came within 0 s, and it was cancelled" in shown.stdout
    (cancelled,) = [call for call in script.calls if isinstance(call, executions.CancelRequest)]
    assert cancelled.execution_id == "exec_probe"
    assert isinstance(script.calls[-1], executions.ResolveUnknownRequest)


def test_an_answer_that_cannot_be_read_names_the_run(opsctl: Opsctl, script: Script) -> None:
    with_a_probe(script)
    del script.tools[1]
    shown = opsctl(*RESOLVE)
    assert shown.exit_code == 0
    assert "the answer of the probe exec_probe could not be read" in shown.stdout


def test_a_probe_that_cannot_be_started_keeps_nobody_from_deciding(
    opsctl: Opsctl, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_probe(script)

    def refuse(*_: object, **__: object) -> None:
        raise NoAgent("no agent could run 1 step of the plan")

    monkeypatch.setattr("opsconductor.client.sync_client.SyncClient.probe", refuse)
    shown = opsctl(*RESOLVE)
    assert shown.exit_code == 0
    assert "the probe could not be started: no agent could run 1 step" in shown.stdout
    assert isinstance(script.calls[-1], executions.ResolveUnknownRequest)


def test_a_probe_can_be_looked_at_before_anything_is_decided(
    opsctl: Opsctl, script: Script
) -> None:
    with_a_probe(script)
    script.happened((executions.EXECUTION_STATE_COMPLETED, 0), kind="execution_finished")
    shown = opsctl("runs", "probe", EXECUTION, "one")
    assert shown.exit_code == 0, shown.stderr
    assert "4711" in shown.stdout
    data = json.loads(opsctl("runs", "probe", EXECUTION, "one", "-o", "json").stdout)
    assert data["execution_id"] == "exec_probe"
    assert not any(isinstance(call, executions.ResolveUnknownRequest) for call in script.calls)


def test_asking_for_a_probe_nobody_declared_says_what_to_do(opsctl: Opsctl, script: Script) -> None:
    of_unknown_outcome(script)
    script.tools += [tools.Tool(name="ping")]
    answer = opsctl("runs", "probe", EXECUTION, "one")
    assert answer.exit_code == 1
    assert "ping declares no probe" in answer.stderr


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
