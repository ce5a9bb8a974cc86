"""``opsctl up`` and ``opsctl down``: the embedded deployment of one directory."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opsconductor.cli import exit_codes
from opsconductor.cli.session import session_of

if TYPE_CHECKING:
    import subprocess

    from opsconductor.cli.embedded import Embedded
    from opsconductor.cli.embedded import Options as UpOptions
    from opsconductor.cli.session import Session
    from opsconductor.cli.terminal import Terminal

_WATCH_SECONDS = 0.3

_DATA_DIR = typer.Option("--data-dir", "-d", help="Directory that holds everything.")
_DEFAULT_DATA_DIR = ".opsconductor"
"""Where every command looks for a context by itself."""


def up(
    ctx: typer.Context,
    data_dir: Annotated[str, _DATA_DIR] = _DEFAULT_DATA_DIR,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when both are ready and leave them running.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port; default: that of last time, else a free one."),
    ] = None,
    tools: Annotated[
        str | None, typer.Option(help="Directory of further tool definitions (YAML).")
    ] = None,
    segment: Annotated[
        str | None, typer.Option(help="Segment of the local agent, at the first start.")
    ] = None,
) -> None:
    """Start an orchestrator and a local agent that need no other service."""
    from opsconductor.cli.embedded import Embedded, Options

    session = session_of(ctx)
    embedded = Embedded(Path(data_dir).expanduser())
    options = Options(port, Path(tools).expanduser() if tools else None, segment)
    embedded.create()
    try:
        with embedded.locked():
            started = _start(session, embedded, options)
    except KeyboardInterrupt:
        embedded.stop()
        raise
    _tell(session.terminal, embedded, started=started)
    if started and not detach:
        raise typer.Exit(_stay(session.terminal, embedded))


def down(ctx: typer.Context, data_dir: Annotated[str, _DATA_DIR] = _DEFAULT_DATA_DIR) -> None:
    """Stop what 'opsctl up' started; the data stays."""
    from opsconductor.cli.embedded import Embedded
    from opsconductor.cli.failure import UsageProblem

    terminal = session_of(ctx).terminal
    embedded = Embedded(Path(data_dir).expanduser())
    if not embedded.directory.is_dir():
        raise UsageProblem(f"there is no directory {embedded.directory}")
    with embedded.locked():
        _stop(terminal, embedded)


def _start(session: Session, embedded: Embedded, options: UpOptions) -> bool:
    """Starts what does not run yet; False when both run already."""
    orchestrator = embedded.start_orchestrator(options)
    if orchestrator:
        session.terminal.note(f"orchestrator is ready on {embedded.endpoint}")
    agent = embedded.start_agent(options)
    _await_agent(session, embedded, options, agent)
    return orchestrator or agent is not None


def _await_agent(
    session: Session,
    embedded: Embedded,
    options: UpOptions,
    process: subprocess.Popen[bytes] | None,
) -> None:
    from opsconductor.cli.agents import write_secret
    from opsconductor.cli.failure import Failed
    from opsconductor.v1.agent_admin_service_pb2 import AGENT_STATE_DRAINING, AGENT_STATE_ONLINE

    name, segment = embedded.agent_name, options.segment or embedded.agent_segment
    connected = (AGENT_STATE_ONLINE, AGENT_STATE_DRAINING)
    with session.client(str(embedded.context_file)) as client:

        def online() -> bool:
            agents = client.list_agents().agents
            return any(each.name == name and each.state in connected for each in agents)

        try:
            embedded.wait(embedded.agent, process, online)
        except Failed:
            # One that ran when we came may have been ending; that is no reason to fail.
            found_ending = process is None and embedded.agent.find() is None
            if not found_ending and (process is None or embedded.agent_is_enrolled):
                raise
            # A run of `up` that was killed while joining may have used the one-time token up.
            if not embedded.agent_is_enrolled:
                token = client.create_join_token(name, segment)
                write_secret(embedded.token_file, token.token_file)
            embedded.wait(embedded.agent, embedded.start_agent(options), online)


def _tell(terminal: Terminal, embedded: Embedded, *, started: bool) -> None:
    state = "is up" if started else "is already running"
    terminal.say(f"OpsConductor {state} on {embedded.endpoint} (data: {embedded.directory})")
    terminal.say(f"export OPSCONDUCTOR_CONTEXT={shlex.quote(str(embedded.context_file))}")


def _stay(terminal: Terminal, embedded: Embedded) -> int:
    """Waits for Ctrl-C or the end of a process, then stops what is left."""
    terminal.note("Ctrl-C stops both")
    code = exit_codes.COMPLETED
    try:
        while (process := embedded.ended()) is None:
            time.sleep(_WATCH_SECONDS)
        terminal.note(f"the {process.name} ended by itself; see {process.log_file}", style="red")
        code = exit_codes.FAILED
    except KeyboardInterrupt:
        terminal.note("stopping")
    with embedded.locked():
        _stop(terminal, embedded)
    return code


def _stop(terminal: Terminal, embedded: Embedded) -> None:
    if embedded.agent.find() is not None:
        terminal.note("stopping; the agent gets half a minute to finish what it runs")
    for name, outcome in embedded.stop().items():
        terminal.say(f"{name}: {outcome}")
