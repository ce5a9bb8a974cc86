from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from helpers.scripted_orchestrator import APPROVAL, EXECUTION, RUNNING
from opsconductor.rpc import sshsig
from opsconductor.rpc.errors import Fault, NoAgent, PlanInvalid, PlanTooLarge
from opsconductor.rpc.statements import NAMESPACE, parse_statement
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1 import plan_service_pb2 as plans
from opsconductor.v1.tool_service_pb2 import Tool

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.opsctl import Opsctl
    from helpers.scripted_orchestrator import Script


_PLAN = "version: opsconductor/v1\nsteps: [{id: one, tool: ping}]\n"


@pytest.fixture
def plan(tmp_path: Path) -> str:
    path = tmp_path / "plan.yaml"
    path.write_text(_PLAN)
    return str(path)


def _tool(**properties: Any) -> Tool:
    tool = Tool(name="ping", aliases=["icmp"])
    tool.parameters.update({"type": "object", "properties": properties})
    return tool


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("COMPLETED", 0),
        ("FAILED", 1),
        ("REJECTED", 3),
        ("EXPIRED", 3),
        ("UNREACHABLE", 4),
        ("ROLLED_BACK", 5),
        ("ROLLBACK_FAILED", 6),
        ("CANCEL_UNVERIFIED", 7),
        ("CANCELLED", 9),
        ("TIMED_OUT", 124),
    ],
)
@pytest.mark.parametrize("form", ["json", "table"])
def test_the_exit_code_tells_how_the_execution_ended(
    opsctl: Opsctl, script: Script, plan: str, state: str, code: int, form: str
) -> None:
    script.execution.state = executions.ExecutionState.Value(f"EXECUTION_STATE_{state}")
    result = opsctl("run", "-f", plan, "-o", form)
    assert result.exit_code == code, result.output
    if form == "json":
        assert json.loads(result.stdout)["status"] == state.lower()


def test_waiting_with_json_writes_one_result_object_and_nothing_else(
    opsctl: Opsctl, script: Script, plan: str
) -> None:
    script.happened(RUNNING)
    script.pieces.append(
        executions.ReadOutputResponse(
            step_id="one", stream=executions.OUTPUT_STREAM_STDOUT, data=b"noise\n"
        )
    )
    result = opsctl("run", "-f", plan, "-o", "json")
    document = json.loads(result.stdout)
    assert document["execution_id"] == EXECUTION
    assert document["step_results"][0]["step_id"] == "one"
    assert "noise" not in result.stdout


def test_the_plan_can_come_from_standard_input(opsctl: Opsctl, script: Script) -> None:
    assert opsctl("run", "-f", "-", stdin=_PLAN).exit_code == 0
    assert script.submitted[0].plan.document == _PLAN.encode()


def test_every_submission_carries_a_request_id_and_a_given_one_is_kept(
    opsctl: Opsctl, script: Script, plan: str
) -> None:
    opsctl("run", "-f", plan)
    opsctl("run", "-f", plan, "--request-id", "mine")
    assert script.submitted[0].request_id
    assert script.submitted[1].request_id == "mine"


def test_detach_gives_the_execution_id_and_does_not_watch(
    opsctl: Opsctl, script: Script, plan: str
) -> None:
    result = opsctl("run", "-f", plan, "--detach")
    assert result.stdout == f"{EXECUTION}\n"
    assert result.exit_code == 0
    assert not any(isinstance(call, executions.WatchRequest) for call in script.calls)
    as_json = opsctl("run", "-f", plan, "--detach", "-o", "json")
    assert json.loads(as_json.stdout)["execution_id"] == EXECUTION


def test_output_is_streamed_with_the_step_before_each_line(
    opsctl: Opsctl, script: Script, plan: str
) -> None:
    script.happened(RUNNING)
    for data in (b"first\nsec", b"ond\n"):
        script.pieces.append(
            executions.ReadOutputResponse(
                step_id="one", stream=executions.OUTPUT_STREAM_STDOUT, data=data
            )
        )
    script.pieces.append(
        executions.ReadOutputResponse(
            step_id="one", stream=executions.OUTPUT_STREAM_STDERR, data=b"oops"
        )
    )
    lines = opsctl("run", "-f", plan).stdout.splitlines()
    assert "one: runs on local" in lines
    assert [line for line in lines if line.startswith("one |")] == ["one | first", "one | second"]
    assert "one ! oops" in lines


def test_an_answer_that_was_not_streamed_is_shown_at_the_end(
    opsctl: Opsctl, script: Script, plan: str
) -> None:
    script.execution.steps[0].output.struct_value.update({"total_count": 6})
    assert "total count  6" in opsctl("run", "-f", plan).stdout
    script.execution.steps[0].attempts.add(stdout_bytes=5)
    assert "total count" not in opsctl("run", "-f", plan).stdout


@pytest.fixture
def read(script: Script) -> Script:
    """A single read whose tool says what its answer looks like."""
    definition = b"output: {schema: {properties: {size_bytes: {}, items: {}}}}"
    script.tools.append(Tool(name="ping", definition=definition))
    step = script.execution.steps[0]
    step.risk.risk_class = plans.RISK_CLASS_READ_ONLY
    step.output.struct_value.update({"items": [{"name": "a"}], "size_bytes": 2048})
    step.attempts.add(stdout_bytes=4, stderr_bytes=8)
    for stream, data in (("STDOUT", b"raw\n"), ("STDERR", b"size_bytes=2048\nwarning\n")):
        script.pieces.append(
            executions.ReadOutputResponse(
                step_id="one",
                stream=executions.OutputStream.Value(f"OUTPUT_STREAM_{stream}"),
                data=data,
            )
        )
    return script


def test_a_single_read_is_answered_with_its_data_and_what_it_complained_about(
    opsctl: Opsctl, read: Script, plan: str
) -> None:
    lines = opsctl("run", "-f", plan).stdout.splitlines()
    assert "size  2.0 KiB" in lines
    assert "NAME" in lines
    assert [line for line in lines if line.startswith("one !")] == ["one ! warning"]
    assert "one | raw" not in lines


def test_a_read_is_streamed_as_it_is_on_request_or_when_it_has_no_answer(
    opsctl: Opsctl, read: Script, plan: str
) -> None:
    lines = opsctl("run", "-f", plan, "--raw-output").stdout.splitlines()
    assert "one | raw" in lines
    assert "size  2.0 KiB" not in lines
    read.execution.steps[0].ClearField("output")
    lines = opsctl("run", "-f", plan).stdout.splitlines()
    assert "one | raw" in lines
    assert "one ! warning" in lines


def test_faults_of_a_plan_come_all_at_once_with_exit_code_2(
    opsctl: Opsctl, script: Script, plan: str
) -> None:
    faults = [
        Fault("PLAN_CYCLE", "steps", found="a → b → a"),
        Fault("UNKNOWN_TOOL", "steps[0].tool", found="dfk", hint="did you mean df?", step="a"),
        Fault("TYPE", "steps[1].inputs.count", found='"x"', expected="integer", step="b"),
        Fault("TIMEOUT", "steps[1].timeout", found="-1", expected="1s..24h", step="b", line=7),
    ]
    for form in ("table", "json"):
        script.error = PlanInvalid("the plan has 4 faults", faults=faults)
        result = opsctl("run", "-f", plan, "-o", form)
        assert result.exit_code == 2
        for fault in faults:
            assert str(fault) in result.stderr
        if form == "table":
            assert result.stdout == ""
        else:
            error = json.loads(result.stdout)["error"]
            assert error["reason"] == "PLAN_INVALID"
            assert [each["code"] for each in error["faults"]] == [each.code for each in faults]


def test_a_plan_that_is_too_large_is_a_usage_error(
    opsctl: Opsctl, script: Script, plan: str
) -> None:
    script.error = PlanTooLarge("5000 steps, at most 2000")
    result = opsctl("run", "-f", plan)
    assert result.exit_code == 2
    assert "5000 steps" in result.stderr


def test_no_agent_gives_exit_code_4_and_says_how_to_get_one(
    opsctl: Opsctl, script: Script, plan: str
) -> None:
    script.error = NoAgent("no agent serves segment dmz")
    result = opsctl("run", "-f", plan)
    assert result.exit_code == 4
    assert "opsctl agents token create" in result.stderr


def test_a_missing_plan_file_is_a_usage_error(opsctl: Opsctl) -> None:
    result = opsctl("run", "-f", "/does/not/exist.yaml")
    assert result.exit_code == 2
    assert "/does/not/exist.yaml" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], ["ping", "-f", "x"], ["-f", "x", "--target", "t"], ["-f", "x", "--segment", "s"]],
)
def test_a_plan_or_a_tool_is_needed_and_not_both(
    opsctl: Opsctl, script: Script, arguments: list[str]
) -> None:
    assert opsctl("run", *arguments).exit_code == 2
    assert script.submitted == []


def test_values_are_read_by_the_type_of_the_parameter(opsctl: Opsctl, script: Script) -> None:
    script.tools.append(
        _tool(
            host={"type": "string"},
            count={"type": "integer"},
            quick={"type": "boolean"},
            argv={"type": "array"},
            env={"type": "object"},
        )
    )
    words = ["host=007", "count=3", "quick=true", 'argv=["a b","c"]', 'env={"X":"=1"}']
    result = opsctl("run", "icmp", *words, "--target", "web-01", "--segment", "dmz")
    assert result.exit_code == 0, result.output
    (step,) = script.document()["steps"]
    assert step == {
        "id": "ping",
        "tool": "ping",
        "target": "web-01",
        "segment": "dmz",
        "inputs": {
            "host": "007",
            "count": 3,
            "quick": True,
            "argv": ["a b", "c"],
            "env": {"X": "=1"},
        },
    }


def test_all_mistakes_in_inputs_are_told_at_once_with_those_of_the_server(
    opsctl: Opsctl, script: Script
) -> None:
    script.tools.append(_tool(host={"type": "string"}, count={"type": "integer"}))
    script.faults += [
        plans.Fault(code="MISSING", field="steps[0].inputs.host", expected="string"),
        plans.Fault(code="MISSING", field="steps[0].inputs.count", expected="integer"),
        plans.Fault(code="NOT_RENDERABLE", field="steps[0]"),
    ]
    result = opsctl("run", "ping", "hots=a", "count=many", "stray", "-o", "json")
    assert result.exit_code == 2
    assert script.submitted == []
    faults = json.loads(result.stdout)["error"]["faults"]
    assert [(fault["code"], fault["field"]) for fault in faults] == [
        ("UNKNOWN_KEY", "inputs.hots"),
        ("TYPE", "inputs.count"),
        ("ARGUMENT", "inputs"),
        ("MISSING", "steps[0].inputs.host"),
    ]
    assert faults[0]["hint"] == "did you mean host?"


def test_an_unknown_tool_is_refused_with_a_suggestion(opsctl: Opsctl) -> None:
    result = opsctl("run", "pnig")
    assert result.exit_code == 2
    assert "did you mean ping?" in result.stderr


def test_without_terminal_and_yes_it_leaves_the_approval_to_others(
    opsctl: Opsctl, script: Script, plan: str
) -> None:
    script.asks_for_approval()
    result = opsctl("run", "-f", plan)
    assert result.exit_code == 8
    assert f"opsctl approvals approve {APPROVAL}" in result.stderr
    as_json = opsctl("run", "-f", plan, "-o", "json")
    assert as_json.exit_code == 8
    document = json.loads(as_json.stdout)
    assert document["status"] == "approval_required"
    assert document["pending_approval_ids"] == [APPROVAL]
    assert script.decisions == []


def test_yes_signs_what_was_checked_and_waits_for_the_end(
    opsctl: Opsctl, script: Script, plan: str
) -> None:
    script.asks_for_approval()
    result = opsctl("run", "-f", plan, "--yes", "-o", "json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["status"] == "completed"
    assert "lets you approve your own plans" in result.stderr
    (decision,) = script.decisions
    signers = sshsig.AllowedSigners.parse(f"alice {opsctl.public_key}")
    sshsig.verify(
        decision.statement,
        decision.signature,
        namespace=NAMESPACE,
        signers=signers,
        principal="alice",
        at=datetime.now(UTC),
    )
    statement = parse_statement(decision.statement)
    assert statement.covers("one")
    assert statement.execution_id == EXECUTION


def test_yes_refuses_to_sign_content_that_is_not_what_is_asked_for(
    opsctl: Opsctl, script: Script, plan: str
) -> None:
    script.asks_for_approval()
    assert script.approval is not None
    script.approval.step_bodies[0] = b'{"step_id":"one","tool":"something else"}'
    result = opsctl("run", "-f", plan, "--yes")
    assert result.exit_code == 1
    assert "DIGEST_MISMATCH" in result.stderr
    assert script.decisions == []


def test_yes_works_only_in_an_embedded_context(opsctl: Opsctl, script: Script, plan: str) -> None:
    opsctl.set_context(embedded=False)
    result = opsctl("run", "-f", plan, "--yes")
    assert result.exit_code == 2
    assert "only in an embedded context" in result.stderr
    assert script.submitted == []


def test_an_execution_that_needs_attention_is_not_waited_for_any_longer(
    opsctl: Opsctl, script: Script, plan: str
) -> None:
    script.execution.state = executions.EXECUTION_STATE_ATTENTION_REQUIRED
    script.execution.steps[0].state = executions.STEP_STATE_UNKNOWN
    script.happened((executions.EXECUTION_STATE_ATTENTION_REQUIRED, executions.STEP_STATE_UNKNOWN))
    script.hold = True
    result = opsctl("run", "-f", plan)
    assert result.exit_code == 7
    assert f"opsctl runs resolve {EXECUTION} one" in result.stderr


def test_a_gate_is_noticed_when_the_last_other_step_ends_after_it(
    opsctl: Opsctl, script: Script, plan: str
) -> None:
    script.asks_for_approval()
    script.events.clear()
    script.execution.steps.add(step_id="two", state=executions.STEP_STATE_COMPLETED)
    script.execution.state = executions.EXECUTION_STATE_RUNNING
    gate = (executions.EXECUTION_STATE_RUNNING, executions.STEP_STATE_APPROVAL_REQUIRED)
    script.happened(gate, step="one")
    script.happened(
        (executions.EXECUTION_STATE_RUNNING, executions.STEP_STATE_COMPLETED), step="two"
    )
    result = opsctl("run", "-f", plan)
    assert f"opsctl approvals approve {APPROVAL}" in result.stderr
