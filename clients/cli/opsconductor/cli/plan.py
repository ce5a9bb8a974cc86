"""``opsctl plan``: judges a plan and shows what it would do; nothing runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from opsconductor.cli import exit_codes, options
from opsconductor.cli.session import session_of

if TYPE_CHECKING:
    from opsconductor.cli.terminal import Terminal
    from opsconductor.rpc.errors import OpsConductorError
    from opsconductor.v1.plan_service_pb2 import PreviewResponse


def plan(
    ctx: typer.Context,
    named: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="Plan file; '-' reads standard input.")
    ] = None,
    file: Annotated[str | None, typer.Option("--file", "-f", help="The same as FILE.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Show scripts and long inputs whole.")
    ] = False,
    output: Annotated[options.Format, options.OUTPUT] = options.Format.table,
) -> None:
    """Show a plan's faults, risk, approval level, routing, commands, undo and time; run nothing.

    Exit code 0: free to run; 8: needs approval; 2: invalid; 4: no agent can run a step.
    """
    from opsconductor.cli.documents import read_document
    from opsconductor.cli.failure import UsageProblem
    from opsconductor.cli.plain import plain
    from opsconductor.cli.preview import show_preview
    from opsconductor.rpc.errors import PlanInvalid, PlanTooLarge

    session = session_of(ctx)
    if bool(named) == bool(file):
        raise UsageProblem("give one plan file: opsctl plan FILE")
    document = read_document(named or file or "")
    with session.client() as client:
        try:
            preview = client.preview(document)
        except (PlanInvalid, PlanTooLarge) as error:
            refuse(session.terminal, error, output)
    if output is options.Format.table:
        show_preview(session.terminal, preview, full=full)
    else:
        session.terminal.data(plain(preview), output)
    raise typer.Exit(_exit_code(preview))


def refuse(terminal: Terminal, error: OpsConductorError, output: options.Format) -> NoReturn:
    """Writes a plan's faults where the format wants them and ends with their exit code."""
    from opsconductor.cli import failure

    failure.show(terminal, error)
    if output is not options.Format.table:
        terminal.data(failure.document(error), output)
    raise typer.Exit(failure.exit_code(error))


def _exit_code(preview: PreviewResponse) -> int:
    if preview.unroutable_steps:
        return exit_codes.UNREACHABLE
    return exit_codes.APPROVAL_REQUIRED if preview.approval_level else exit_codes.COMPLETED
