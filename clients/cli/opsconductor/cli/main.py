"""opsctl: the commands, and what happens around each of them."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from opsconductor.cli import (
    agents,
    approvals,
    assets,
    doctor,
    exit_codes,
    failure,
    plan,
    run,
    runs,
    tools,
    up,
)
from opsconductor.cli.session import Session
from opsconductor.cli.terminal import Terminal
from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal asked opsctl to end."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(number)


class Commands(TyperGroup):
    """The top of the command line: every error of every command ends here."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; errors become messages and exit codes."""
        try:
            return super().invoke(ctx)
        except OpsConductorError as error:
            terminal = _terminal(ctx)
            failure.show(terminal, error, _cause(ctx, error))
            raise typer.Exit(failure.exit_code(error)) from None
        except BrokenPipeError:
            _silence_output()
            raise typer.Exit(exit_codes.BROKEN_PIPE) from None
        except KeyboardInterrupt as interrupt:
            code = interrupt.exit_code if isinstance(interrupt, Interrupted) else None
            raise typer.Exit(code or exit_codes.INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    name="opsctl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run plans on hosts through agents, with approval, undo and evidence.",
)


@app.callback()
def top(
    ctx: typer.Context,
    context: Annotated[
        str | None,
        typer.Option(
            help="Context file; default: OPSCONDUCTOR_CONTEXT, ./.opsconductor, ~/.config."
        ),
    ] = None,
) -> None:
    """Run plans on hosts through agents, with approval, undo and evidence."""
    ctx.obj = Session(Terminal(), context)


app.command("up")(up.up)
app.command("down")(up.down)
app.command("plan")(plan.plan)
app.command("run")(run.run)
app.add_typer(runs.app, name="runs")
app.add_typer(approvals.app, name="approvals")
app.add_typer(tools.app, name="tools")
app.add_typer(agents.app, name="agents")
app.add_typer(assets.app, name="assets")
app.command("doctor")(doctor.doctor)


@app.command("version")
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(f"opsctl {installed('opsconductor-client')}")


def _let_help_flow(commands: typer.Typer) -> None:
    """Joins the lines of each paragraph of help, which are as long as suits the source."""
    for command in commands.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(text.replace("\n", " ") for text in paragraphs)
    for group in commands.registered_groups:
        if group.typer_instance:
            _let_help_flow(group.typer_instance)


_let_help_flow(app)


def main() -> None:
    """Runs opsctl as a program."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            # A terminal that knows ASCII only must not turn a name into a traceback.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        app()
    except SystemExit as end:
        _leave(end.code if isinstance(end.code, int) else exit_codes.FAILED)
    except KeyboardInterrupt:
        _leave(exit_codes.INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends politely at the first signal, at once at the second."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _exit_at_once)
    raise Interrupted(number)


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def _leave(code: int) -> None:
    """Ends the process with what is written flushed, not waiting for threads of open streams."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = code or exit_codes.BROKEN_PIPE
    os._exit(code)


def _terminal(ctx: Any) -> Terminal:
    return ctx.obj.terminal if isinstance(ctx.obj, Session) else Terminal()


def _cause(ctx: Any, error: OpsConductorError) -> str:
    """Returns what can be seen from here of why no orchestrator answers."""
    from opsconductor.rpc.transport import Unreachable

    if not (isinstance(ctx.obj, Session) and isinstance(error, Unreachable)):
        return ""
    from opsconductor.cli.certificates import certificate_problem

    try:
        context = ctx.obj.context()
    except OpsConductorError:
        return ""
    if "CERTIFICATE_VERIFY_FAILED" in error.message:
        return (
            f"whoever listens there does not belong to the CA in {context.ca_file}: "
            "the context is that of another deployment, or this is another server"
        )
    return certificate_problem(context)


def _silence_output() -> None:
    """Sends what is still to be written nowhere, so that the interpreter does not complain."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
