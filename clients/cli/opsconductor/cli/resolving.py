"""What a person should know before deciding about a step whose outcome is unknown."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.cli import formats
from opsconductor.cli.answers import show_answers
from opsconductor.cli.escape import escape_name
from opsconductor.cli.execution_view import show_next, status_of, step_status
from opsconductor.cli.lines import OutputLines
from opsconductor.cli.structured import column_order
from opsconductor.rpc.errors import InvalidTransition, NotFound, OpsConductorError

if TYPE_CHECKING:
    from opsconductor.cli.terminal import Terminal
    from opsconductor.client.sync_client import SyncClient
    from opsconductor.v1.execution_service_pb2 import Attempt, Execution, StepStatus

_LINES = 10
_PATIENCE = timedelta(seconds=10)
"""How long a decision waits for what a probe answers."""

_CONSEQUENCES = {
    "completed": "it counts as done; the plan goes on",
    "failed": "it counts as failed; the plan goes on as it does after a failed step",
    "retry": "it runs again: whatever the lost attempt did may then happen twice",
}


def unknown_step(execution: Execution, step_id: str) -> StepStatus:
    """Returns a step that waits for a decision.

    Raises:
        NotFound: The execution has no such step.
        InvalidTransition: Its outcome is not unknown.
    """
    for step in execution.steps:
        if step.step_id == step_id:
            if step_status(step) == "unknown":
                return step
            raise InvalidTransition(
                f"step {step_id} is {step_status(step)}, not unknown: there is nothing to decide"
            )
    names = ", ".join(step.step_id for step in execution.steps)
    raise NotFound(f"{execution.execution_id} has no step {step_id}; it has {names}")


def show_unknown(
    terminal: Terminal, client: SyncClient, execution: Execution, step: StepStatus
) -> None:
    """Writes what is known of a step's last attempt."""
    terminal.say(f"{escape_name(step.step_id)}: its outcome is unknown", style="bold")
    attempt = step.attempts[-1] if step.attempts else None
    terminal.fields(
        [
            ("  tool", step.tool),
            ("  target", escape_name(step.target)),
            ("  command", step.command),
            *(_attempt(attempt) if attempt else []),
        ]
    )
    if attempt is not None:
        _show_output(terminal, client, execution, attempt)


def show_consequence(terminal: Terminal, outcome: str) -> None:
    """Writes what a decision will mean."""
    terminal.say(f"as {outcome}: {_CONSEQUENCES[outcome]}")


def show_probe(
    terminal: Terminal, client: SyncClient, execution: Execution, step: StepStatus
) -> Execution | None:
    """Starts the run that reads what a step did, and writes what it answers.

    Returns:
        That run; None where the step's tool declares no probe.

    Raises:
        OpsConductorError: It could not be started.
    """
    probe = client.get_tool(step.tool).probe
    if not probe:
        return None
    terminal.note(f"{probe} is asked what became of it …")
    run = client.probe(execution.execution_id, step.step_id, wait=True, timeout=_PATIENCE)
    terminal.say(f"{probe} says ({run.execution_id}):", style="bold")
    orders = {
        each.step_id: column_order(client.get_tool(each.tool).definition) for each in run.steps
    }
    show_answers(terminal, client, run, orders)
    status = status_of(run)
    if status in ("queued", "running"):
        terminal.say(
            f"  no answer yet: 'opsctl runs get {run.execution_id}' shows it when it is there"
        )
    elif status != "completed":
        terminal.say(f"  {status}: {run.error_message}")
        show_next(terminal, run)
    return run


def show_probe_if_any(
    terminal: Terminal, client: SyncClient, execution: Execution, step: StepStatus
) -> None:
    """Writes what the probe of a step answers; a decision does not depend on whether it can."""
    try:
        show_probe(terminal, client, execution, step)
    except OpsConductorError as error:
        terminal.say(f"the probe could not be started: {error.message}")


def _attempt(attempt: Attempt) -> list[tuple[str, str]]:
    error = attempt.error
    return [
        ("  attempt", f"{attempt.number} ({attempt.attempt_id})"),
        ("  agent", escape_name(attempt.agent_id)),
        ("  started", formats.moment(attempt.start_time) or "nobody heard that it started"),
        ("  last heard", formats.moment(attempt.end_time)),
        ("  error", f"{error.code}: {error.message}" if error.code else error.message),
        ("  still alive", "\n".join(attempt.survivors)),
    ]


def _show_output(
    terminal: Terminal, client: SyncClient, execution: Execution, attempt: Attempt
) -> None:
    lines, last = OutputLines(), deque[str](maxlen=_LINES)
    pieces = client.read_output(execution.execution_id, attempt_id=attempt.attempt_id)
    for piece in pieces:
        last.extend(lines.add(piece))
    last.extend(lines.finish())
    terminal.say("  the last it wrote:" if last else "  no output of it has arrived")
    for line in last:
        terminal.say(f"    {line}")
