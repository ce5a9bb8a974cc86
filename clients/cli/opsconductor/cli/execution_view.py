"""Shows an execution to people: where it stands, what each step did, what to do next."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from opsconductor.cli import formats
from opsconductor.cli.escape import escape_name
from opsconductor.cli.plain import plain, word
from opsconductor.cli.preview import level_text, risk_word
from opsconductor.cli.structured import is_structured
from opsconductor.cli.terminal import style_of
from opsconductor.client.words import stream_word
from opsconductor.v1 import execution_service_pb2 as executions

if TYPE_CHECKING:
    from opsconductor.cli.terminal import Terminal
    from opsconductor.v1.execution_service_pb2 import Attempt, Execution, StepStatus

_OUTPUT_CHARACTERS = 2000
_COMMAND_LINES = 5


def status_of(execution: Execution) -> str:
    """Returns the status word of an execution."""
    return word(executions.ExecutionState.DESCRIPTOR, execution.state)


def step_status(step: StepStatus) -> str:
    """Returns the status word of a step."""
    return word(executions.StepState.DESCRIPTOR, step.state)


def show_execution(terminal: Terminal, execution: Execution) -> None:
    """Writes everything about an execution."""
    status = status_of(execution)
    terminal.say(f"{execution.execution_id}  {status}", style=style_of(status) or "bold")
    terminal.fields(
        [
            ("plan", f"{execution.name} ({execution.plan_id})"),
            ("external id", execution.external_id),
            ("asked by", escape_name(execution.requester)),
            ("risk", risk_word(execution.risk)),
            ("approval level", level_text(execution.approval_level)),
            ("approved by", ", ".join(escape_name(name) for name in execution.approved_by)),
            ("submitted", formats.moment(execution.create_time)),
            ("started", formats.moment(execution.start_time)),
            ("ended", formats.moment(execution.end_time)),
            ("took", formats.between(execution.start_time, execution.end_time)),
            ("progress", f"{execution.progress} %"),
            ("trace", execution.trace_id),
            ("summary", execution.summary),
            ("error", execution.error_message),
            ("waits for", ", ".join(execution.pending_approval_ids)),
        ]
    )
    terminal.say("")
    show_step_table(terminal, execution)
    for step in execution.steps:
        _show_step(terminal, step)
    show_next(terminal, execution)


def show_step_table(terminal: Terminal, execution: Execution) -> None:
    """Writes one row for each step."""
    headers = ("STEP", "STATUS", "TOOL", "TARGET", "RISK", "TOOK", "ATTEMPTS", "ERROR")
    terminal.table(
        headers,
        [
            (
                escape_name(step.step_id),
                step_status(step),
                step.tool,
                escape_name(step.target),
                risk_word(step.risk),
                formats.between(step.start_time, step.end_time),
                str(sum(attempt.kind == "forward" for attempt in step.attempts)),
                step.error.code,
            )
            for step in execution.steps
        ],
    )


def show_end(terminal: Terminal, execution: Execution, *, why: bool = True) -> None:
    """Writes how an execution ended, why unless that was said already, and what to do next."""
    status = status_of(execution)
    took = formats.between(execution.start_time, execution.end_time)
    text = f"{execution.execution_id} {status}" + (f" in {took}" if took else "")
    terminal.say(text, style=style_of(status) or "bold")
    if why and execution.error_message:
        terminal.say(f"  {execution.error_message}")
    show_next(terminal, execution)


def show_next(terminal: Terminal, execution: Execution) -> None:
    """Writes the commands that fit the execution's state."""
    name, status = execution.execution_id, status_of(execution)
    for approval in execution.pending_approval_ids:
        terminal.note(f"to approve: opsctl approvals approve {approval}")
    if status == "attention_required":
        unknown = [step.step_id for step in execution.steps if step_status(step) == "unknown"]
        for step in unknown:
            words = f"{name} {escape_name(step)}"
            terminal.note(
                f"step {escape_name(step)}: its outcome is unknown\n"
                f"  look:   opsctl runs probe {words}, or at the target yourself\n"
                f"  decide: opsctl runs resolve {words} --as completed|failed|retry --reason TEXT"
            )
        if not unknown:
            terminal.note(f"to go on: opsctl runs resume|rollback|cancel {name}")
    elif status == "paused":
        terminal.note(f"to go on: opsctl runs resume {name}")
    elif status in ("failed", "timed_out", "unreachable", "rollback_failed"):
        terminal.note(f"details: opsctl runs get {name}")


def _show_step(terminal: Terminal, step: StepStatus) -> None:
    terminal.say(f"\n{escape_name(step.step_id)}", style="bold")
    error = step.error
    terminal.fields(
        [
            ("  command", _shortened(step.command)),
            ("  summary", step.summary),
            (
                "  error",
                f"{error.code} ({error.error_class}): {error.message}" if error.code else "",
            ),
            ("  effects", word(executions.Effects.DESCRIPTOR, step.effects)),
            ("  output", _output(step)),
        ]
    )
    for attempt in step.attempts:
        _show_attempt(terminal, attempt)


def _show_attempt(terminal: Terminal, attempt: Attempt) -> None:
    state = word(executions.AttemptState.DESCRIPTOR, attempt.state)
    parts = [
        f"  {attempt.kind} attempt {attempt.number}: {state}",
        f"exit code {attempt.exit_code}" if attempt.HasField("exit_code") else "",
        formats.between(attempt.start_time, attempt.end_time),
        f"on {escape_name(attempt.agent_id)}" if attempt.agent_id else "",
        f"stdout {formats.size(attempt.stdout_bytes)}" if attempt.stdout_bytes else "",
        f"stderr {formats.size(attempt.stderr_bytes)}" if attempt.stderr_bytes else "",
    ]
    terminal.say(", ".join(part for part in parts if part))
    if attempt.routing_reason:
        terminal.say(f"    routed: {attempt.routing_reason}")
    if attempt.error.code:
        terminal.say(f"    {attempt.error.code}: {attempt.error.message}")
    for gap in attempt.output_gaps:
        stream = stream_word(gap.stream)
        terminal.say(f"    {stream}: {gap.bytes} bytes left out after the first {gap.offset}")
    for line in attempt.survivors:
        terminal.say(f"    still alive: {line}")


def _shortened(command: str) -> str:
    first, *rest = command.splitlines() or [""]
    if len(rest) < _COMMAND_LINES:
        return command
    kept = "\n".join([first, *rest[: _COMMAND_LINES - 1]])
    return f"{kept}\n… and {len(rest) + 1 - _COMMAND_LINES} more lines"


def _output(step: StepStatus) -> str:
    if not step.HasField("output") or step.output.WhichOneof("kind") in (None, "null_value"):
        return ""
    value = plain(step.output)
    if isinstance(value, dict) and "text" in value and not is_structured(value):
        text, rest = value["text"].rstrip("\n"), "opsctl runs tail shows all that is kept"
        cut = value.get("truncated") is True
    else:
        text, rest = json.dumps(value, indent=2, ensure_ascii=False), "-o json shows all"
        cut = False
    if len(text) <= _OUTPUT_CHARACTERS and not cut:
        return str(text)
    return f"{text[:_OUTPUT_CHARACTERS]}\n… ({len(text)} characters; {rest})"
