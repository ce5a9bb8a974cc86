from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from helpers.scripted_orchestrator import APPROVAL, EXECUTION
from opsconductor.cli import exit_codes
from opsconductor.cli.agents import parse_ttl
from opsconductor.cli.failure import UsageProblem
from opsconductor.client.words import execution_word
from opsconductor.rpc.errors import (
    BY_REASON,
    AlreadyDecided,
    Expired,
    InvalidTransition,
    PlanInvalid,
    StoreUnavailable,
)
from opsconductor.v1 import agent_admin_service_pb2 as agents
from opsconductor.v1 import approval_service_pb2 as approvals
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1 import plan_service_pb2 as plans
from opsconductor.v1.tool_service_pb2 import ExportFormat, Tool

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.opsctl import Opsctl
    from helpers.scripted_orchestrator import Script
    from opsconductor.rpc.errors import OpsConductorError


_HOSTILE = "evil\x1b[2J\u202e"


def _piece(
    data: bytes,
    stream: executions.OutputStream.ValueType = executions.OUTPUT_STREAM_STDOUT,
    **fields: Any,
) -> executions.ReadOutputResponse:
    return executions.ReadOutputResponse(step_id="one", stream=stream, data=data, **fields)


@pytest.fixture
def filled(script: Script) -> Script:
    step = script.execution.steps[0]
    step.command = "\n".join([f"ping {_HOSTILE}", *(f"line {n}" for n in range(20))])
    step.output.struct_value.update({"text": "pong\n"})
    step.error.code, step.error.message = "EXIT_CODE", f"ended with 1 {_HOSTILE}"
    step.attempts.add(
        attempt_id="att_1",
        kind="forward",
        number=1,
        state=executions.ATTEMPT_STATE_FAILED,
        agent_id="agt_1",
        routing_reason="serves the segment, least loaded",
        exit_code=1,
        stdout_bytes=2048,
        survivors=["sleep 1000"],
    )
    step.attempts.add(kind="undo", number=1, state=executions.ATTEMPT_STATE_COMPLETED)
    script.tools.append(Tool(name="ping", description=f"Sends echoes {_HOSTILE}"))
    script.tools[0].parameters.update(
        {"properties": {"host": {"type": "string", "description": "whom"}}, "required": ["host"]}
    )
    script.agents.append(
        agents.Agent(
            name="local", agent_id="agt_1", state=agents.AGENT_STATE_ONLINE, segment=_HOSTILE
        )
    )
    script.asks_for_approval()
    return script


_LOOKS = [
    ("runs", "list"),
    ("runs", "get", EXECUTION),
    ("approvals", "list"),
    ("approvals", "show", APPROVAL),
    ("tools", "list"),
    ("tools", "search", "echo"),
    ("tools", "show", "ping"),
    ("tools", "render", "ping", "host=a"),
    ("agents", "list"),
    ("agents", "get", "local"),
    ("agents", "drain", "local"),
    ("agents", "retire", "local", "--reason", "its host burnt"),
    ("assets", "list"),
    ("assets", "add", "web-02", "--type", "linux_server", "--tag", "web", "--label", "a=b"),
    ("runs", "cancel", EXECUTION),
    ("runs", "pause", EXECUTION),
    ("runs", "resume", EXECUTION),
    ("runs", "rollback", EXECUTION, "--reason", "wrong host"),
]


@pytest.mark.parametrize("arguments", _LOOKS, ids=" ".join)
def test_every_command_writes_a_table_json_and_yaml(
    opsctl: Opsctl, filled: Script, arguments: tuple[str, ...]
) -> None:
    table = opsctl(*arguments)
    assert table.exit_code == 0, table.output
    assert "\x1b" not in table.stdout
    assert "\u202e" not in table.stdout
    as_json = opsctl(*arguments, "-o", "json")
    assert as_json.exit_code == 0
    as_yaml = opsctl(*arguments, "-o", "yaml")
    assert yaml.safe_load(as_yaml.stdout) == json.loads(as_json.stdout)


@pytest.mark.parametrize("shape", ["mcp", "functions"])
def test_an_export_is_nothing_but_the_document_on_standard_output(
    opsctl: Opsctl, script: Script, shape: str
) -> None:
    result = opsctl("tools", "export", "--format", shape, "--category", "linux", "ping", "df")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"tools": []}
    asked = script.calls[-1]
    assert ExportFormat.Name(asked.format) == f"EXPORT_FORMAT_{shape.upper()}"
    assert (asked.category, list(asked.names)) == ("linux", ["ping", "df"])


def test_a_run_is_shown_with_attempts_routing_command_and_undo(
    opsctl: Opsctl, filled: Script
) -> None:
    text = opsctl("runs", "get", EXECUTION).stdout
    for part in (
        "forward attempt 1: failed, exit code 1",
        "undo attempt 1: completed",
        "routed: serves the segment",
        "ping evil\\u001b[2J",
        "stdout 2.0 KiB",
        "still alive: sleep 1000",
        "pong",
        "line 3",
        "… and 16 more lines",
    ):
        assert part in text
    assert "line 4" not in text


def test_a_run_as_json_is_the_result_object(opsctl: Opsctl, filled: Script) -> None:
    document = json.loads(opsctl("runs", "get", EXECUTION, "-o", "json").stdout)
    assert document["execution_id"] == EXECUTION
    assert document["status"] == "approval_required"
    assert document["step_results"][0]["error"]["code"] == "EXIT_CODE"


def test_whole_numbers_of_outputs_stay_whole(opsctl: Opsctl, script: Script) -> None:
    output = script.execution.steps[0].output
    output.struct_value.update({"total_count": 6, "share": 0.5, "list": [1, {"deep": 2}]})
    text = opsctl("runs", "get", EXECUTION).stdout
    assert '"total_count": 6' in text
    assert "6.0" not in text
    assert '"share": 0.5' in text
    (listed,) = json.loads(opsctl("runs", "list", "-o", "json").stdout)
    assert repr(listed["steps"][0]["output"]["list"]) == "[1, {'deep': 2}]"


def test_an_unknown_run_is_a_usage_error_without_output(opsctl: Opsctl) -> None:
    result = opsctl("runs", "get", "exec_other", "-o", "json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error: there is no execution exec_other [NOT_FOUND]" in result.stderr


def test_states_to_list_may_be_synonyms_and_mistakes_get_a_suggestion(
    opsctl: Opsctl, script: Script
) -> None:
    opsctl("runs", "list", "--state", "success", "--state", "timeout")
    states = [execution_word(state) for state in script.calls[-1].states]
    assert states == ["completed", "timed_out"]
    result = opsctl("runs", "list", "--state", "complted")
    assert result.exit_code == 2
    assert "did you mean completed?" in result.stderr


def test_raw_tail_writes_the_exact_bytes_to_their_streams(opsctl: Opsctl, script: Script) -> None:
    noise = bytes(range(256)) * 3
    script.pieces += [
        _piece(noise),
        _piece(b"\x00err\xff", executions.OUTPUT_STREAM_STDERR),
        _piece(b"end"),
    ]
    result = opsctl("runs", "tail", EXECUTION, "--raw")
    assert result.stdout_bytes == noise + b"end"
    assert result.stderr_bytes == b"\x00err\xff"


def test_raw_tail_resumes_at_an_offset(opsctl: Opsctl, script: Script) -> None:
    script.pieces += [_piece(b"0123"), _piece(b"456789")]
    result = opsctl("runs", "tail", EXECUTION, "--raw", "--since-offset", "6", "--step", "one")
    assert result.stdout_bytes == b"6789"
    assert script.calls[-1].step_id == "one"


def test_tail_escapes_and_tells_what_is_missing(opsctl: Opsctl, script: Script) -> None:
    script.pieces += [_piece(b"\x1b]0;title\x07\r\n\xff\nhal"), _piece(b"", gap_bytes=7)]
    lines = opsctl("runs", "tail", EXECUTION).stdout.splitlines()
    assert lines == [
        "one | \\u001b]0;title\\u0007",
        "one | \\xff",
        "one | hal",
        "one | [… 7 bytes left out …]",
    ]


def test_a_preview_tells_by_its_exit_code_whether_the_plan_can_run(
    opsctl: Opsctl, script: Script, tmp_path: Path
) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("steps: []")
    script.preview = plans.PreviewResponse(plan_id="p", policy="embedded 1")
    script.preview.steps.add(step_id="one", undo=["none"], command=f"x {_HOSTILE}")
    assert opsctl("plan", "-f", str(file)).exit_code == 0
    script.preview.approval_level = 2
    result = opsctl("plan", "-f", str(file))
    assert result.exit_code == 8
    assert "2 (plan review)" in result.stdout
    assert "\x1b" not in result.stdout
    script.preview.unroutable_steps.append("one")
    assert opsctl("plan", "-f", str(file), "-o", "json").exit_code == 4
    script.error = PlanInvalid("1 fault")
    result = opsctl("plan", "-f", str(file), "-o", "json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["reason"] == "PLAN_INVALID"


def test_a_step_is_headed_by_its_call_and_scripts_are_whole_only_on_request(
    opsctl: Opsctl, script: Script, tmp_path: Path
) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("steps: []")
    script.preview.steps.add(step_id="one", tool="write_file", command="sh -c 'set -u\nmv a b'")
    script.preview.steps[0].inputs.update({"path": "/etc/motd", "content": "a\nb\n"})
    short = opsctl("plan", "-f", str(file)).stdout
    assert 'write_file content="a\\nb\\n" path=/etc/motd' in short
    assert "sh -c 'set -u … (2 lines, --full shows them)" in short
    assert "mv a b" not in short
    assert "mv a b" in opsctl("plan", "-f", str(file), "--full").stdout


def test_an_approver_can_see_scripts_whole_and_the_inputs_that_are_signed(
    opsctl: Opsctl, script: Script
) -> None:
    script.asks_for_approval()
    assert script.approval is not None
    script.approval.steps[0].command = "sh -c 'first\nsecond'"
    script.approval.steps[0].inputs.update({"a": "a lie"})
    short = opsctl("approvals", "show", APPROVAL).stdout
    assert "x a=1" in short
    assert "second" not in short
    assert "second" in opsctl("approvals", "show", APPROVAL, "--full").stdout


def test_undo_attempts_do_not_count_as_attempts(opsctl: Opsctl, filled: Script) -> None:
    lines = opsctl("runs", "get", EXECUTION).stdout.splitlines()
    row = next(line for line in lines if line.startswith("one ")).split()
    assert row[-2:] == ["1", "EXIT_CODE"]


def test_approving_signs_and_rejecting_needs_a_reason(opsctl: Opsctl, script: Script) -> None:
    script.asks_for_approval()
    result = opsctl("approvals", "approve", APPROVAL)
    assert result.exit_code == 0, result.output
    assert script.decisions[-1].signature.startswith("-----BEGIN SSH SIGNATURE-----")
    assert opsctl("approvals", "reject", APPROVAL).exit_code == 2
    assert opsctl("approvals", "reject", APPROVAL, "--reason", "no").exit_code == 0
    assert script.decisions[-1].kind == approvals.DECISION_KIND_REJECT
    assert opsctl("approvals", "request-changes", APPROVAL, "--reason", "x").exit_code == 0
    assert script.decisions[-1].kind == approvals.DECISION_KIND_REQUEST_CHANGES


def test_an_edit_sends_the_edited_plan(opsctl: Opsctl, script: Script) -> None:
    script.asks_for_approval()
    result = opsctl("approvals", "edit", APPROVAL, "-f", "-", "-r", "typo", stdin="steps: [x]")
    assert result.exit_code == 0, result.output
    assert script.decisions[-1].edited_plan.document == b"steps: [x]"


def test_an_edit_without_file_and_terminal_is_refused(opsctl: Opsctl, script: Script) -> None:
    script.asks_for_approval()
    result = opsctl("approvals", "edit", APPROVAL, "-r", "typo")
    assert result.exit_code == 2
    assert "-f FILE" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"), [(Expired(), 3), (AlreadyDecided(), 1), (InvalidTransition(), 1)]
)
def test_a_refused_decision_has_its_exit_code(
    opsctl: Opsctl, script: Script, error: OpsConductorError, code: int
) -> None:
    script.asks_for_approval()
    script.error = error
    result = opsctl("approvals", "reject", APPROVAL, "--reason", "no")
    assert result.exit_code == code
    assert error.message in result.stderr


def test_a_token_goes_to_standard_output_or_a_private_file(
    opsctl: Opsctl, script: Script, tmp_path: Path
) -> None:
    result = opsctl("agents", "token", "create", "dmz-1", "--segment", "dmz", "--ttl", "1h30m")
    assert result.stdout == "token: secret\n"
    assert script.calls[-1].ttl.seconds == 5400
    file = tmp_path / "dmz-1.token"
    result = opsctl("agents", "token", "create", "dmz-1", "-s", "dmz", "--file", str(file))
    assert "secret" not in result.output
    assert f"--token-file {file}" in result.stderr
    assert file.read_text() == "token: secret\n"
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "5", "-1m", "1d", "m", "1m "])
def test_a_ttl_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageProblem, match="15m"):
        parse_ttl(text)


def test_an_inventory_is_imported_from_a_file_or_standard_input(
    opsctl: Opsctl, script: Script, tmp_path: Path
) -> None:
    file = tmp_path / "assets.yaml"
    file.write_text("- {name: a}")
    assert opsctl("assets", "import", str(file)).stdout == "1 created, 2 updated\n"
    assert script.calls[-1].document == b"- {name: a}"
    assert opsctl("assets", "import", "-", stdin="- {name: b}").exit_code == 0
    assert script.calls[-1].document == b"- {name: b}"


def test_a_label_without_value_is_refused(opsctl: Opsctl) -> None:
    result = opsctl("assets", "add", "x", "--type", "t", "--label", "broken")
    assert result.exit_code == 2
    assert "KEY=VALUE" in result.stderr


def test_an_unreachable_server_gives_exit_code_4_and_what_to_do(opsctl: Opsctl) -> None:
    opsctl.set_context(endpoint="127.0.0.1:1")
    result = opsctl("runs", "list", "-o", "json")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "opsctl up --data-dir" in result.stderr
    assert "Traceback" not in result.stderr


def test_doctor_says_what_is_missing_and_how_to_get_it(
    opsctl: Opsctl, script: Script, filled: Script
) -> None:
    from google.protobuf.timestamp_pb2 import Timestamp

    now = Timestamp()
    now.GetCurrentTime()
    script.agents[0].last_seen_time.CopyFrom(now)
    report = opsctl("doctor", "-o", "json")
    document = json.loads(report.stdout)
    assert (report.exit_code, document["ok"]) == (0, True), document
    states = {check["name"]: check["state"] for check in document["checks"]}
    assert {states[name] for name in ("context", "keys", "orchestrator", "agents", "clock")} == {
        "ok"
    }
    script.agents[0].last_seen_time.seconds -= 3600
    assert opsctl("doctor").exit_code == 1
    script.agents[0].last_seen_time.CopyFrom(now)
    script.agents[0].clock_skew.seconds = -420
    for words in (("doctor",), ("agents", "list"), ("agents", "get", "local")):
        assert "its clock is 7m 00s behind the orchestrator's" in opsctl(*words).output, words
    script.agents[0].state = agents.AGENT_STATE_OFFLINE
    result = opsctl("doctor")
    assert result.exit_code == 1
    assert "none of 1 is online" in result.stdout


def test_doctor_notices_a_dead_endpoint_and_open_keys(opsctl: Opsctl, tmp_path: Path) -> None:
    (tmp_path / "alice.key").chmod(0o644)
    opsctl.set_context(endpoint="127.0.0.1:1")
    result = opsctl("doctor", "-o", "json")
    assert result.exit_code == 1
    states = {check["name"]: check["state"] for check in json.loads(result.stdout)["checks"]}
    assert (states["keys"], states["orchestrator"]) == ("missing", "missing")


def test_every_error_reason_has_an_exit_code_other_than_success() -> None:
    for reason, kind in BY_REASON.items():
        assert exit_codes.of_error(kind()) in (1, 2, 3, 4), reason
    assert exit_codes.of_error(StoreUnavailable()) == 4


def test_every_final_state_has_an_exit_code_other_than_success() -> None:
    for number in executions.ExecutionState.values()[1:]:
        state = execution_word(number)
        if state not in ("completed", "pending", "queued", "running", "paused", "cancelling"):
            assert exit_codes.of_status(state) != 0 or state == "rolling_back", state
