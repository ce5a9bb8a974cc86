"""Between the wire and the agent's own words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from opsconductor.agent.order import Order, Signed
from opsconductor.v1 import agent_service_pb2 as pb
from opsconductor.v1 import execution_service_pb2 as states

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.timestamp_pb2 import Timestamp

    from opsconductor.agent.output import Stream
    from opsconductor.agent.report import Report

HELLO_REPORT_BYTES = 512 * 1024
"""Ends beyond this are announced as granted in the Hello and follow one by one."""
HELLO_ANNOUNCED_BYTES = 256 * 1024
"""Attempts beyond this are not even announced: should they be sent again, they are known."""

STREAM_VALUES: dict[Stream, Any] = {
    "stdout": states.OUTPUT_STREAM_STDOUT,
    "stderr": states.OUTPUT_STREAM_STDERR,
}
STREAM_NAMES: dict[Any, Stream] = {value: name for name, value in STREAM_VALUES.items()}


def order_from(assign: pb.Assign) -> Order:
    """Returns the order an Assign carries."""
    return Order(
        attempt_id=assign.attempt_id,
        execution_id=assign.execution_id,
        step_id=assign.step_id,
        kind=assign.kind,
        number=assign.number,
        body=assign.body,
        manifest=assign.manifest,
        approvals=tuple(Signed(each.statement, each.signature) for each in assign.approvals),
        late_inputs=assign.late_inputs,
        captured=assign.captured,
        undoes_attempt_id=assign.undoes_attempt_id,
        beat=assign.beat,
        start_ttl=assign.start_ttl.ToTimedelta().total_seconds(),
        session_epoch=assign.session_epoch,
        traceparent=assign.traceparent,
    )


def report_message(report: Report) -> pb.AttemptReport:
    """Returns the message of a report."""
    message = pb.AttemptReport(
        attempt_id=report.attempt_id,
        state=states.AttemptState.Value(f"ATTEMPT_STATE_{report.state.upper()}"),
        exit_code=report.exit_code,
        output=report.output.encode(),
        captured=report.captured.encode(),
        effects=states.Effects.Value(f"EFFECTS_{(report.effects or 'unspecified').upper()}"),
        stdout_bytes=report.stdout_bytes,
        stderr_bytes=report.stderr_bytes,
        stdout_sha256=report.stdout_sha256,
        stderr_sha256=report.stderr_sha256,
        stdout_left_out=report.stdout_left_out,
        stderr_left_out=report.stderr_left_out,
        stdout_gap_offset=report.stdout_gap_offset,
        stderr_gap_offset=report.stderr_gap_offset,
        survivors=[_encodable(line) for line in report.survivors],
        command=_encodable(report.command),
        session_epoch=report.session_epoch,
    )
    if report.error is not None:
        message.error.code = report.error.code
        message.error.message = _encodable(report.error.message)
        message.error.error_class = report.error.error_class
    _set_time(message.start_time, report.start_time)
    _set_time(message.end_time, report.end_time)
    return message


def report_frame(report: Report) -> pb.AgentFrame:
    """Returns the frame that carries a report."""
    return pb.AgentFrame(report=report_message(report))


def hello_reports(reports: Iterable[Report]) -> tuple[list[pb.AttemptReport], set[str]]:
    """Returns the reports for a Hello, and the attempts whose end it tells.

    Ends that are too much for it are announced as granted, which promises nothing; they follow.
    Of attempts that are too many even for that nothing is said before they are asked for or end.
    """
    messages: list[pb.AttemptReport] = []
    told: set[str] = set()
    room, places = HELLO_REPORT_BYTES, HELLO_ANNOUNCED_BYTES
    for report in reports:
        message = report_message(report)
        room -= message.ByteSize()
        if report.final and room >= 0:
            told.add(report.attempt_id)
        elif report.final:
            message = pb.AttemptReport(
                attempt_id=report.attempt_id,
                state=states.ATTEMPT_STATE_GRANTED,
                session_epoch=report.session_epoch,
            )
        if report.attempt_id not in told:
            places -= message.ByteSize()
            if places < 0:
                continue
        messages.append(message)
    return messages, told


def hello_message(
    facts: dict[str, Any], attempts: Iterable[pb.AttemptReport], nonce: bytes
) -> pb.Hello:
    """Returns a Hello of the agent's facts and its attempts, stamped with the time of day."""
    hello = pb.Hello(protocol_version=1, attempts=attempts, session_nonce=nonce, **facts)
    hello.clock_time.FromDatetime(datetime.now(UTC))
    return hello


def _set_time(field: Timestamp, seconds: float) -> None:
    if seconds:
        field.FromMicroseconds(int(seconds * 1_000_000))


def _encodable(text: str) -> str:
    """Returns text that protobuf takes: names on a host need not be valid UTF-8."""
    return text.encode("utf-8", "replace").decode()
