"""``opsctl runs``: history, output and control of executions."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from opsconductor.cli import options
from opsconductor.cli.session import session_of

if TYPE_CHECKING:
    from opsconductor.cli.session import Session
    from opsconductor.v1.execution_service_pb2 import Execution

app = typer.Typer(no_args_is_help=True, help="List, look at, watch and control executions.")

_REASON = Annotated[str, options.REASON]
_ID = Annotated[str, options.EXECUTION]
_OUTPUT = Annotated[options.Format, options.OUTPUT]


class Resolution(StrEnum):
    """What a person found out about an unknown outcome."""

    completed = "completed"
    failed = "failed"
    retry = "retry"


@app.command("list")
def list_runs(
    ctx: typer.Context,
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Only this state; may be repeated.")
    ] = None,
    text: Annotated[
        str, typer.Option("--text", help="Only where name, plan id, tool or target contains it.")
    ] = "",
    limit: Annotated[int, options.LIMIT] = 50,
    output: _OUTPUT = options.Format.table,
) -> None:
    """List executions, newest first."""
    from opsconductor.cli import formats
    from opsconductor.cli.execution_view import status_of
    from opsconductor.cli.paging import collect
    from opsconductor.cli.plain import plain
    from opsconductor.cli.preview import risk_word

    session = session_of(ctx)
    with session.client() as client:
        found = collect(
            lambda size, token: client.list(
                states=tuple(state or ()), text=text, page_size=size, page_token=token
            ),
            lambda page: page.executions,
            limit=limit,
            page_size=200,
        )
    if output is not options.Format.table:
        documents = [{**plain(each), "status": status_of(each)} for each in found]
        session.terminal.data(documents, output)
        return
    session.terminal.table(
        ("EXECUTION", "STATUS", "PLAN", "RISK", "SUBMITTED", "TOOK", "BY"),
        [
            (
                each.execution_id,
                status_of(each),
                each.name or each.plan_id,
                risk_word(each.risk),
                formats.moment(each.create_time),
                formats.between(each.start_time, each.end_time),
                each.requester,
            )
            for each in found
        ],
    )


@app.command("show", hidden=True)
@app.command("get")
def get(ctx: typer.Context, execution_id: _ID, output: _OUTPUT = options.Format.table) -> None:
    """Show an execution with its steps, attempts, routing, commands, output and undo."""
    from opsconductor.cli.execution_view import show_execution

    session = session_of(ctx)
    with session.client() as client:
        execution = client.get(execution_id)
    if output is options.Format.table:
        show_execution(session.terminal, execution)
    else:
        _data(session, execution, output)


@app.command("tail")
def tail(
    ctx: typer.Context,
    execution_id: _ID,
    step: Annotated[str, typer.Option("--step", help="Only this step.")] = "",
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Write the exact bytes: stdout to stdout, stderr to stderr."),
    ] = False,
    since_offset: Annotated[
        int, typer.Option(min=0, help="Pass over this many bytes of standard output.")
    ] = 0,
    stderr_since_offset: Annotated[
        int, typer.Option(min=0, help="Pass over this many bytes of standard error.")
    ] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", "-F", help="Wait for more until the execution has ended.")
    ] = False,
) -> None:
    """Write the stored output; without --raw escaped, one step's name before each line."""
    from opsconductor.cli.moves import Moves
    from opsconductor.cli.tail import write_lines, write_raw

    session = session_of(ctx)
    with session.client() as client:
        pieces = client.read_output(
            execution_id,
            step_id=step,
            stdout_offset=since_offset,
            stderr_offset=stderr_since_offset,
            follow=follow,
        )
        write = write_raw if raw else write_lines
        write(session.terminal, Moves(client, session.terminal.note).beside(pieces))


@app.command("cancel")
def cancel(
    ctx: typer.Context,
    execution_id: _ID,
    reason: _REASON = "",
    output: _OUTPUT = options.Format.table,
) -> None:
    """Ask for cancellation; 'runs get' tells when nothing runs any more."""
    session = session_of(ctx)
    with session.client() as client:
        _tell(session, client.cancel(execution_id, reason=reason), output)


@app.command("pause")
def pause(
    ctx: typer.Context,
    execution_id: _ID,
    reason: _REASON = "",
    output: _OUTPUT = options.Format.table,
) -> None:
    """Start no new steps until resumed; running ones go on."""
    session = session_of(ctx)
    with session.client() as client:
        _tell(session, client.pause(execution_id, reason=reason), output)


@app.command("resume")
def resume(ctx: typer.Context, execution_id: _ID, output: _OUTPUT = options.Format.table) -> None:
    """Let a paused execution go on."""
    session = session_of(ctx)
    with session.client() as client:
        _tell(session, client.resume(execution_id), output)


@app.command("rollback")
def rollback(
    ctx: typer.Context,
    execution_id: _ID,
    reason: _REASON = "",
    output: _OUTPUT = options.Format.table,
) -> None:
    """Take back what a finished execution did, in reverse start order."""
    session = session_of(ctx)
    with session.client() as client:
        _tell(session, client.rollback(execution_id, reason=reason), output)


@app.command("probe")
def probe(
    ctx: typer.Context,
    execution_id: _ID,
    step: Annotated[str, typer.Argument(metavar="STEP", help="The step whose outcome is unknown.")],
    output: _OUTPUT = options.Format.table,
) -> None:
    """Look at what became of a step whose outcome is unknown, the way its tool declares.

    Starts a run of its own that only reads, and decides nothing; it is shown as 'opsctl run' shows
    one, with the same exit codes. 'runs resolve' asks it as well.
    """
    from opsconductor.cli.resolving import unknown_step
    from opsconductor.cli.run import report, wait_for_end

    session = session_of(ctx)
    context = session.context()
    with session.client() as client:
        execution = client.get(execution_id)
        unknown_step(execution, step)
        run = client.probe(execution.execution_id, step)
        raw = output is not options.Format.table
        run = wait_for_end(session, client, context, run, yes=False, raw=raw, output=output)
    report(session, run, wait=True, output=output)


@app.command("resolve")
def resolve(
    ctx: typer.Context,
    execution_id: _ID,
    step: Annotated[str, typer.Argument(metavar="STEP", help="The step whose outcome is unknown.")],
    outcome: Annotated[
        Resolution, typer.Option("--as", help="What you found out, or 'retry' to run it again.")
    ],
    reason: Annotated[str, options.REASON],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again.")] = False,
    probe: Annotated[
        bool, typer.Option(help="Show what the probe of the step's tool says, where it has one.")
    ] = True,
    output: _OUTPUT = options.Format.table,
) -> None:
    """Decide about a step whose outcome is unknown, after a look at its target.

    What is known of the attempt is shown first, with what a probe of the target says where the
    tool declares one, and on a terminal you are asked. A retry of a step
    that changes something is signed with the context's key. Exit code 0 means that the decision was
    taken: 'runs get' tells how the execution goes on.
    """
    from opsconductor.cli.resolving import (
        show_consequence,
        show_probe,
        show_unknown,
        unknown_step,
    )

    session = session_of(ctx)
    context = session.context()
    signer = context.signer() if outcome is Resolution.retry and context.signing_key else None
    with session.client() as client:
        execution = client.get(execution_id)
        unknown = unknown_step(execution, step)
        if output is options.Format.table:
            show_unknown(session.terminal, client, execution, unknown)
            if probe:
                show_probe(session.terminal, client, execution, unknown)
            show_consequence(session.terminal, outcome.value)
            asks = session.terminal.interactive and not yes
            if asks and not session.terminal.confirm(f"\nDecide this as {outcome.value}?"):
                raise typer.Abort
        execution = client.resolve_unknown(
            execution.execution_id, step, outcome.value, reason, signer=signer
        )
        _tell(session, execution, output)


def _tell(session: Session, execution: Execution, output: options.Format) -> None:
    from opsconductor.cli.execution_view import show_end

    if output is options.Format.table:
        show_end(session.terminal, execution)
    else:
        _data(session, execution, output)


def _data(session: Session, execution: Execution, output: options.Format) -> None:
    from opsconductor.client.result import execution_result

    session.terminal.data(execution_result(execution), output)
