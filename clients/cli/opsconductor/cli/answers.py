"""What an execution found out, beside what its programs wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.cli.escape import escape_name
from opsconductor.cli.lines import OutputLines
from opsconductor.cli.plain import plain
from opsconductor.cli.structured import column_order, is_structured, show_data
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1 import plan_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opsconductor.cli.terminal import Terminal
    from opsconductor.client.sync_client import SyncClient
    from opsconductor.v1.execution_service_pb2 import Execution, ReadOutputResponse


def answer_order(client: SyncClient, execution: Execution) -> list[str] | None:
    """Returns the columns of the answer that is all a person wants of this execution.

    None when output is to be streamed instead: several steps, a change, or a tool whose output is
    text.
    """
    if len(execution.steps) != 1:
        return None
    step = execution.steps[0]
    if step.risk.risk_class != plan_service_pb2.RISK_CLASS_READ_ONLY:
        return None
    order = column_order(client.get_tool(step.tool).definition)
    # What is text anyway is better seen while it comes.
    return order if set(order) - {"text"} else None


def show_answers(
    terminal: Terminal, client: SyncClient, execution: Execution, order: Sequence[str] | None
) -> None:
    """Writes the structured outputs that nobody has seen as text.

    Args:
        terminal: Where to.
        client: The way to what the programs wrote.
        execution: The execution at its end.
        order: Columns of the one answer when nothing was streamed; None after streaming.
    """
    if order is not None:
        _show_only(terminal, client, execution, order)
        return
    for step in execution.steps:
        streamed = any(attempt.stdout_bytes for attempt in step.attempts)
        value = plain(step.output) if step.HasField("output") else None
        if is_structured(value) and not streamed:
            terminal.say(f"{escape_name(step.step_id)} answered", style="bold")
            show_data(terminal, value)


def _show_only(
    terminal: Terminal, client: SyncClient, execution: Execution, order: Sequence[str]
) -> None:
    from opsconductor.cli.tail import write_lines

    step = execution.steps[0]
    value = plain(step.output) if step.HasField("output") else None
    if step.state == executions.STEP_STATE_COMPLETED and is_structured(value):
        show_data(terminal, value, order)
        if any(attempt.stderr_bytes for attempt in step.attempts):
            _show_complaints(terminal, client.read_output(execution.execution_id), value)
    elif any(attempt.stdout_bytes or attempt.stderr_bytes for attempt in step.attempts):
        write_lines(terminal, client.read_output(execution.execution_id))


def _show_complaints(
    terminal: Terminal, pieces: Iterable[ReadOutputResponse], answer: object
) -> None:
    """Writes standard error without the lines that are already part of the answer."""
    lines = OutputLines()
    for piece in pieces:
        if piece.stream != executions.OUTPUT_STREAM_STDERR:
            continue
        for line in lines.add(piece):
            _complain(terminal, line, answer)
    for line in lines.finish():
        _complain(terminal, line, answer)


def _complain(terminal: Terminal, line: str, answer: object) -> None:
    name = line.partition(" ! ")[2].partition("=")[0]
    if not (isinstance(answer, dict) and name in answer):
        terminal.say(line)
