"""``opsctl run``: runs a plan or one tool, asks for approval where it may, waits for the end."""

from __future__ import annotations

import shlex
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opsconductor.cli import exit_codes, options
from opsconductor.cli.session import session_of

if TYPE_CHECKING:
    from opsconductor.cli.approving import Approver, Mode
    from opsconductor.cli.live import View
    from opsconductor.cli.session import Session
    from opsconductor.client.context import Context
    from opsconductor.client.sync_client import SyncClient
    from opsconductor.v1.execution_service_pb2 import Execution


def run(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TOOL] [KEY=VALUE]...",
            help="A tool and its inputs; arrays and objects as JSON. Or give -f PLAN.",
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="Plan file; '-' reads standard input.")
    ] = None,
    target: Annotated[
        str, typer.Option("--target", "-t", help="Asset, host or address the tool acts on.")
    ] = "",
    segment: Annotated[
        str, typer.Option("--segment", "-s", help="Segment of a tool without a target.")
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait/--detach", help="Wait for the end, or return at once.")
    ] = True,
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Approve as the local operator (embedded context only)."),
    ] = False,
    request_id: Annotated[
        str, typer.Option(help="Key that never runs twice; repeat a lost call with it.")
    ] = "",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only ask what would happen: changes by their tools' dry run, reads as they are.",
        ),
    ] = False,
    raw_output: Annotated[
        bool,
        typer.Option("--raw-output", help="Stream what a read prints instead of its answer."),
    ] = False,
    output: Annotated[options.Format, options.OUTPUT] = options.Format.table,
) -> None:
    """Run a plan (-f) or one tool; the exit code tells how it ended.

    With --dry-run a step that would change something is refused where its tool has no dry run.

    Exit codes: 0 completed, 1 failed, 2 invalid, 3 rejected or expired, 4 unreachable, 5 failed and
    rolled back, 6 rollback failed, 7 outcome unknown, 8 waits for approval, 9 cancelled, 124 timed
    out, 130 interrupted (it goes on without you).
    """
    session = session_of(ctx)
    context = session.context()
    _check(words, file, target, segment, yes=yes, context=context)
    with session.client() as client:
        document = _document(
            session, client, words or [], file, target, segment, output, dry_run=dry_run
        )
        execution = _submit(
            session, client, document, request_id or f"opsctl-{uuid.uuid4()}", output
        )
        if wait:
            raw = raw_output or output is not options.Format.table
            execution = wait_for_end(
                session, client, context, execution, yes=yes, raw=raw, output=output
            )
        elif yes:
            _approve_in_background(session, client, context, execution)
    report(session, execution, wait=wait, output=output)


def wait_for_end(
    session: Session,
    client: SyncClient,
    context: Context,
    execution: Execution,
    *,
    yes: bool,
    raw: bool,
    output: options.Format,
) -> Execution:
    """Follows the execution; what reads found out is shown as data at its end."""
    from opsconductor.cli.answers import answer_orders, show_answers
    from opsconductor.cli.approving import Approver

    orders = None if raw else answer_orders(client, execution)
    approver = Approver(
        session.terminal, client, context, _mode(session, context, yes=yes, output=output)
    )
    view = _view(session, execution, output, stream=orders is None)
    execution = _follow(session, client, execution, view, approver)
    if output is options.Format.table:
        show_answers(session.terminal, client, execution, orders)
    return execution


def _check(
    words: list[str] | None,
    file: str | None,
    target: str,
    segment: str,
    *,
    yes: bool,
    context: Context,
) -> None:
    from opsconductor.cli.failure import UsageProblem

    if bool(words) == bool(file):
        raise UsageProblem("give either a plan with -f PLAN or a tool: opsctl run TOOL key=value …")
    if words and Path(words[0]).suffix in (".yaml", ".yml", ".json"):
        raise UsageProblem(f"{words[0]} is a plan file, no tool: opsctl run -f {words[0]}")
    if file and (target or segment):
        raise UsageProblem("--target and --segment go with a tool; in a plan they are in its steps")
    if yes and not context.embedded:
        raise UsageProblem(
            "--yes works only in an embedded context, where the local operator may approve their "
            "own plans; elsewhere others approve: 'opsctl approvals list'"
        )


def _document(
    session: Session,
    client: SyncClient,
    words: list[str],
    file: str | None,
    target: str,
    segment: str,
    output: options.Format,
    *,
    dry_run: bool,
) -> bytes:
    from opsconductor.cli.documents import as_dry_run, read_document, tool_document
    from opsconductor.cli.plan import refuse
    from opsconductor.rpc.errors import PlanInvalid, UnknownTool

    try:
        if file:
            document = read_document(file)
        else:
            document = tool_document(client, words[0], words[1:], target=target, segment=segment)
        return as_dry_run(document) if dry_run else document
    except (PlanInvalid, UnknownTool) as error:
        refuse(session.terminal, error, output)


def _submit(
    session: Session, client: SyncClient, document: bytes, request_id: str, output: options.Format
) -> Execution:
    from opsconductor.cli.plan import refuse
    from opsconductor.cli.preview import fault_text
    from opsconductor.client.persistence import is_open
    from opsconductor.rpc.errors import OpsConductorError, PlanInvalid, PlanTooLarge

    try:
        answer = client.submit(document, request_id=request_id)
    except (PlanInvalid, PlanTooLarge) as error:
        refuse(session.terminal, error, output)
    except KeyboardInterrupt:
        session.terminal.note("\ninterrupted while submitting")
        _tell_how_to_repeat(session, request_id)
        raise
    except OpsConductorError as error:
        if is_open(error):
            _tell_how_to_repeat(session, request_id)
        raise
    for warning in answer.warnings:
        session.terminal.note(f"warning: {fault_text(warning)}", style="yellow")
    if answer.already_submitted:
        session.terminal.note("this request was submitted before; nothing new was started")
    return answer.execution


def _tell_how_to_repeat(session: Session, request_id: str) -> None:
    """Names the key under which a submission without an answer can be asked for again."""
    session.terminal.note(
        f"the plan may have been taken, under request id {request_id}; this asks for the answer "
        "again and runs nothing twice:\n"
        f"  {_command_again(request_id)}"
    )


def _command_again(request_id: str) -> str:
    """Returns the command line of this process with the request id."""
    words = ["opsctl", *sys.argv[1:]]
    given = any(word.partition("=")[0] == "--request-id" for word in words)
    if not given:
        after = words.index("run") + 1 if "run" in words else len(words)
        words[after:after] = ["--request-id", request_id]
    return shlex.join(words)


def _follow(
    session: Session, client: SyncClient, execution: Execution, view: View, approver: Approver
) -> Execution:
    from opsconductor.cli import waiting

    try:
        return waiting.wait_for_end(client, execution.execution_id, view, approver)
    except KeyboardInterrupt:
        view.close()
        detached(session, execution.execution_id)
        raise
    finally:
        view.close()


def detached(session: Session, execution_id: str) -> None:
    """Says that an execution goes on and how to watch or end it."""
    session.terminal.note(
        f"\ndetached; {execution_id} goes on\n"
        f"  watch:  opsctl runs tail {execution_id} --follow\n"
        f"  cancel: opsctl runs cancel {execution_id}"
    )


def _view(session: Session, execution: Execution, output: options.Format, *, stream: bool) -> View:
    from opsconductor.cli.live import LineView, LiveView, SilentView

    terminal = session.terminal
    if output is not options.Format.table:
        return SilentView()
    terminal.say(f"execution {execution.execution_id}")
    if terminal.out.isatty():
        return LiveView(terminal, execution, output=stream)
    return LineView(terminal, output=stream)


def _mode(session: Session, context: Context, *, yes: bool, output: options.Format) -> Mode:
    from opsconductor.cli.approving import Mode

    if yes:
        return Mode.YES
    asks = session.terminal.interactive and output is options.Format.table
    return Mode.ASK if asks and context.embedded else Mode.OTHERS


def _approve_in_background(
    session: Session, client: SyncClient, context: Context, execution: Execution
) -> None:
    """Gives the approvals that are open at the start; later gates need a person or --wait."""
    from opsconductor.cli.approving import Approver, Mode
    from opsconductor.cli.live import SilentView

    current = client.get(execution.execution_id)
    approver = Approver(session.terminal, client, context, Mode.YES)
    approver.settle(current.pending_approval_ids, SilentView())


def report(session: Session, execution: Execution, *, wait: bool, output: options.Format) -> None:
    """Writes how an execution ended, or how to watch it, and exits with the code that says so."""
    from opsconductor.cli.execution_view import (
        show_end,
        show_next,
        show_step_table,
        status_of,
    )
    from opsconductor.client.result import execution_result

    terminal, status = session.terminal, status_of(execution)
    if output is not options.Format.table:
        terminal.data(execution_result(execution), output)
        if status == "approval_required":
            show_next(terminal, execution)
    elif not wait:
        terminal.say(execution.execution_id)
        terminal.note(f"watch: opsctl runs tail {execution.execution_id} --follow")
    else:
        if len(execution.steps) > 1:
            show_step_table(terminal, execution)
        # A single step has just told by itself why it failed.
        show_end(terminal, execution, why=len(execution.steps) != 1)
    raise typer.Exit(exit_codes.of_status(status) if wait else exit_codes.COMPLETED)
