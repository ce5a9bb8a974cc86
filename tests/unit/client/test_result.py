"""The result object tells a run as plain JSON."""

from __future__ import annotations

import json

from google.protobuf.json_format import ParseDict

from opsconductor.client import execution_result
from opsconductor.v1.execution_service_pb2 import Execution


def execution(**fields: object) -> Execution:
    return ParseDict({"execution_id": "exec_1", "plan_id": "plan-42", **fields}, Execution())


def test_a_finished_run_is_told_whole() -> None:
    run = execution(
        state="EXECUTION_STATE_FAILED",
        start_time="2026-03-01T12:00:00Z",
        end_time="2026-03-01T12:00:03.250Z",
        approved_by=["alice"],
        approval_time="2026-03-01T11:59:00Z",
        trace_id="ab" * 16,
        error_message="step restart failed on web-01",
        steps=[
            {
                "step_id": "space",
                "state": "STEP_STATE_COMPLETED",
                "start_time": "2026-03-01T12:00:00Z",
                "end_time": "2026-03-01T12:00:01Z",
                "output": {"filesystems": [{"size_bytes": 10, "use_percent": 71.5}]},
                "attempts": [{"kind": "forward", "number": 1}],
            },
            {
                "step_id": "restart",
                "state": "STEP_STATE_FAILED",
                "error": {"code": "EXIT_CODE", "message": "exit 1", "error_class": "retryable"},
                "attempts": [
                    {"kind": "forward", "number": 1},
                    {"kind": "forward", "number": 2},
                    {"kind": "undo", "number": 1},
                ],
            },
            {"step_id": "rest", "state": "STEP_STATE_SKIPPED"},
        ],
    )
    assert execution_result(run) == {
        "execution_id": "exec_1",
        "plan_id": "plan-42",
        "status": "failed",
        "started_at": "2026-03-01T12:00:00Z",
        "completed_at": "2026-03-01T12:00:03.250Z",
        "total_duration_seconds": 3.25,
        "step_results": [
            {
                "step_id": "space",
                "status": "completed",
                "started_at": "2026-03-01T12:00:00Z",
                "completed_at": "2026-03-01T12:00:01Z",
                "duration_seconds": 1.0,
                "attempts": 1,
                "output": {"filesystems": [{"size_bytes": 10, "use_percent": 71.5}]},
                "error": None,
            },
            {
                "step_id": "restart",
                "status": "failed",
                "started_at": None,
                "completed_at": None,
                "duration_seconds": None,
                "attempts": 2,
                "output": None,
                "error": {"code": "EXIT_CODE", "message": "exit 1", "class": "retryable"},
            },
            {
                "step_id": "rest",
                "status": "skipped",
                "started_at": None,
                "completed_at": None,
                "duration_seconds": None,
                "attempts": 0,
                "output": None,
                "error": None,
            },
        ],
        "success_count": 1,
        "failure_count": 1,
        "output": {"filesystems": [{"size_bytes": 10, "use_percent": 71.5}]},
        "error_message": "step restart failed on web-01",
        "approved_by": ["alice"],
        "approval_timestamp": "2026-03-01T11:59:00Z",
        "trace_id": "ab" * 16,
    }


def test_whole_numbers_stay_whole_in_json() -> None:
    run = execution(steps=[{"step_id": "a", "state": "STEP_STATE_COMPLETED", "output": {"n": 3}}])
    assert '"n": 3}' in json.dumps(execution_result(run))


def test_a_run_that_waits_for_a_person_names_its_requests() -> None:
    run = execution(state="EXECUTION_STATE_APPROVAL_REQUIRED", pending_approval_ids=["appr_1"])
    result = execution_result(run)
    assert result["status"] == "approval_required"
    assert result["plan_id"] == "plan-42"
    assert result["pending_approval_ids"] == ["appr_1"]
    assert result["started_at"] is None
    assert result["output"] is None
    assert result["error_message"] is None


def test_without_a_message_of_its_own_the_run_tells_its_first_steps_error() -> None:
    run = execution(
        steps=[
            {"step_id": "a", "state": "STEP_STATE_UNKNOWN", "error": {"message": "agent lost"}},
            {"step_id": "b", "state": "STEP_STATE_UNREACHABLE", "error": {"message": "no route"}},
        ]
    )
    result = execution_result(run)
    assert result["error_message"] == "agent lost"
    assert result["failure_count"] == 2


def test_a_step_whose_output_has_gaps_tells_where() -> None:
    gap = {"stream": "OUTPUT_STREAM_STDERR", "offset": 70, "bytes": 2**33}
    attempt = {"attempt_id": "att_1", "kind": "forward", "output_gaps": [gap]}
    run = execution(steps=[{"step_id": "a", "attempts": [attempt]}, {"step_id": "b"}])
    whole, plain = execution_result(run)["step_results"]
    assert whole["output_gaps"] == [
        {"attempt_id": "att_1", "stream": "stderr", "offset": 70, "bytes": 2**33}
    ]
    assert "output_gaps" not in plain
