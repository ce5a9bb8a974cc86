"""The result of an execution as one JSON object, for programs that want no protobuf."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.client.values import json_value
from opsconductor.client.words import execution_word, step_word, stream_word

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from opsconductor.v1.execution_service_pb2 import Execution, StepStatus

_FAILURES = frozenset(
    {"failed", "timed_out", "unreachable", "unknown", "cancel_unverified", "rollback_failed"}
)


def execution_result(execution: Execution) -> dict[str, Any]:
    """Returns the result object; times are RFC 3339, absent values are None.

    ``output`` is that of the last step that completed. While a person is waited for,
    ``pending_approval_ids`` names the open requests. A step whose programs wrote more than was kept
    has ``output_gaps``.
    """
    steps = [_step_result(step) for step in execution.steps]
    status = execution_word(execution.state)
    completed = [step for step in steps if step["status"] == "completed"]
    result = {
        "execution_id": execution.execution_id,
        "plan_id": execution.plan_id,
        "status": status,
        "started_at": _time(execution, "start_time"),
        "completed_at": _time(execution, "end_time"),
        "total_duration_seconds": _duration(execution),
        "step_results": steps,
        "success_count": len(completed),
        "failure_count": sum(step["status"] in _FAILURES for step in steps),
        "output": completed[-1]["output"] if completed else None,
        "error_message": execution.error_message or _first_error(steps),
        "approved_by": list(execution.approved_by),
        "approval_timestamp": _time(execution, "approval_time"),
        "trace_id": execution.trace_id or None,
    }
    if status == "approval_required" or execution.pending_approval_ids:
        result["pending_approval_ids"] = list(execution.pending_approval_ids)
    return result


def _step_result(step: StepStatus) -> dict[str, Any]:
    error = step.error
    result = {
        "step_id": step.step_id,
        "status": step_word(step.state),
        "started_at": _time(step, "start_time"),
        "completed_at": _time(step, "end_time"),
        "duration_seconds": _duration(step),
        "attempts": sum(attempt.kind == "forward" for attempt in step.attempts),
        "output": json_value(step.output) if step.HasField("output") else None,
        "error": {"code": error.code, "message": error.message, "class": error.error_class}
        if step.HasField("error")
        else None,
    }
    if gaps := _output_gaps(step):
        result["output_gaps"] = gaps
    return result


def _output_gaps(step: StepStatus) -> list[dict[str, Any]]:
    """Returns where output is missing that was produced; offsets count what is kept."""
    return [
        {
            "attempt_id": attempt.attempt_id,
            "stream": stream_word(gap.stream),
            "offset": gap.offset,
            "bytes": gap.bytes,
        }
        for attempt in step.attempts
        for gap in attempt.output_gaps
    ]


def _first_error(steps: list[dict[str, Any]]) -> str | None:
    messages = (step["error"]["message"] for step in steps if step["error"])
    return next(messages, None)


def _time(message: Message, field: str) -> str | None:
    time: Timestamp = getattr(message, field)
    return time.ToJsonString() if message.HasField(field) else None


def _duration(message: Execution | StepStatus) -> float | None:
    if not (message.HasField("start_time") and message.HasField("end_time")):
        return None
    nanoseconds = message.end_time.ToNanoseconds() - message.start_time.ToNanoseconds()
    return round(nanoseconds / 1e9, 3)
