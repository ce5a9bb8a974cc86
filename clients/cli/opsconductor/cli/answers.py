"""What an execution found out, beside what its programs wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.cli.escape import escape_name
from opsconductor.cli.lines import OutputLines
from opsconductor.cli.plain import plain
from opsconductor.cli.structured import (
    answers_data,
    column_order,
    is_structured,
    show_data,
)
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1 import plan_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opsconductor.cli.terminal import Terminal
    from opsconductor.client.sync_client import SyncClient
    from opsconductor.v1.execution_service_pb2 import Execution, ReadOutputResponse, StepStatus


def answer_orders(client: SyncClient, execution: Execution) -> Mapping[str, Sequence[str]] | None:
    """Returns each step's columns when data is all a person wants of this execution.

    None when output is to be streamed instead: something is changed, or a tool's output is text.
    """
    steps = execution.steps
    if any(step.risk.risk_class != plan_service_pb2.RISK_CLASS_READ_ONLY for step in steps):
        return None
    definitions = {step.tool: client.get_tool(step.tool).definition for step in steps}
    # What is text anyway is better seen while it comes.
    if not all(answers_data(definition) for definition in definitions.values()):
        return None
    return {step.step_id: column_order(definitions[step.tool]) for step in steps}


def show_answers(
    terminal: Terminal,
    client: SyncClient,
    execution: Execution,
    orders: Mapping[str, Sequence[str]] | None,
) -> None:
    """Writes the structured outputs that nobody has seen as text.

    Args:
        terminal: Where to.
        client: The way to what the programs wrote.
        execution: The execution at its end.
        orders: Columns by step when nothing was streamed; None after streaming.
    """
    for step in execution.steps:
        if orders is not None:
            if len(execution.steps) > 1:
                terminal.say(f"\n{escape_name(step.step_id)}", style="bold")
            _show_only(terminal, client, execution, step, orders.get(step.step_id, ()))
            continue
        streamed = any(attempt.stdout_bytes for attempt in step.attempts)
        value = plain(step.output) if step.HasField("output") else None
        if is_structured(value) and not streamed:
            terminal.say(f"{escape_name(step.step_id)} answered", style="bold")
            show_data(terminal, value)


def _show_only(
    terminal: Terminal,
    client: SyncClient,
    execution: Execution,
    step: StepStatus,
    order: Sequence[str],
) -> None:
    from opsconductor.cli.tail import write_lines

    value = plain(step.output) if step.HasField("output") else None
    written = any(attempt.stdout_bytes or attempt.stderr_bytes for attempt in step.attempts)
    if step.state == executions.STEP_STATE_COMPLETED and is_structured(value):
        show_data(terminal, value, order)
        if any(attempt.stderr_bytes for attempt in step.attempts):
            pieces = client.read_output(execution.execution_id, step_id=step.step_id)
            _show_complaints(terminal, pieces, value)
    elif written:
        write_lines(terminal, client.read_output(execution.execution_id, step_id=step.step_id))


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
