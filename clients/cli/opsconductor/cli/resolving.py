"""What a person should know before deciding about a step whose outcome is unknown."""

from __future__ import annotations

import time
from collections import deque
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
_PATIENCE_SECONDS = 10
"""How long a decision waits for what a probe answers."""
_PAUSE_SECONDS = 0.2
_MOVING = ("pending", "queued", "running")

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
) -> None:
    """Writes what the probe of a step answers, where its tool declares one.

    Whether it can does not matter to who decides: nothing of it is an error here.
    """
    run = None
    try:
        probe = client.get_tool(step.tool).probe
        if not probe:
            return
        terminal.note(f"{probe} is asked what became of it …")
        run = client.probe(execution.execution_id, step.step_id)
        terminal.say(f"{probe} says ({run.execution_id}):", style="bold")
        _show_answer(terminal, client, _answered(client, run))
    except OpsConductorError as error:
        began = f"the answer of the probe {run.execution_id} could not be read" if run else ""
        terminal.say(f"  {began or 'the probe could not be started'}: {error.message}")
    except KeyboardInterrupt:
        terminal.note(f"\nnothing was decided{f'; {run.execution_id} goes on' if run else ''}")
        raise


def _answered(client: SyncClient, run: Execution) -> Execution:
    """Returns a run at its end; as it stands after a while, and cancelled, where none came."""
    patience = time.monotonic() + _PATIENCE_SECONDS
    while status_of(run) in _MOVING:
        if time.monotonic() > patience:
            return client.cancel(run.execution_id, reason="nobody waits for its answer any more")
        time.sleep(_PAUSE_SECONDS)
        run = client.get(run.execution_id)
    return run


def _show_answer(terminal: Terminal, client: SyncClient, run: Execution) -> None:
    status = status_of(run)
    if status in {*_MOVING, "cancelling", "cancelled"}:
        terminal.say(f"  no answer came within {_PATIENCE_SECONDS} s, and it was cancelled")
        return
    show_answers(
        terminal,
        client,
        run,
        {each.step_id: column_order(client.get_tool(each.tool).definition) for each in run.steps},
    )
    if status != "completed":
        terminal.say(f"  {status}: {run.error_message}")
        show_next(terminal, run)


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
