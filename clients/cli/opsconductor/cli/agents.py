"""``opsctl agents``: who is connected, and letting new ones join."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opsconductor.cli import options
from opsconductor.cli.session import session_of

if TYPE_CHECKING:
    from opsconductor.cli.session import Session
    from opsconductor.v1.agent_admin_service_pb2 import Agent, ListAgentsResponse

app = typer.Typer(no_args_is_help=True, help="List, drain and release agents, make join tokens.")
token_app = typer.Typer(no_args_is_help=True, help="Join tokens for new agents.")
app.add_typer(token_app, name="token")

_OUTPUT = Annotated[options.Format, options.OUTPUT]
_ID = Annotated[str, typer.Argument(metavar="AGENT", help="Id or name.")]
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}


@app.command("list")
def list_agents(
    ctx: typer.Context,
    limit: Annotated[int, options.LIMIT] = 1000,
    output: _OUTPUT = options.Format.table,
) -> None:
    """List agents by name."""
    from opsconductor.cli import formats, trust
    from opsconductor.cli.paging import collect
    from opsconductor.cli.plain import plain

    session = session_of(ctx)
    with session.client() as client:
        pages: list[ListAgentsResponse] = []

        def page(size: int, token: str) -> ListAgentsResponse:
            pages.append(client.list_agents(page_size=size, page_token=token))
            return pages[-1]

        found = collect(page, lambda page: page.agents, limit=limit, page_size=1000)
    if pages and pages[-1].HasField("safe_mode"):
        trust.show(session.terminal, pages[-1].safe_mode)
    if output is not options.Format.table:
        session.terminal.data([plain(agent) for agent in found], output)
        return
    now = datetime.now(UTC)
    session.terminal.table(
        ("AGENT", "STATE", "SEGMENT", "SERVICES", "RUNNING", "SEEN", "VERSION", "ID"),
        [
            (
                agent.name,
                state_word(agent),
                agent.segment,
                ", ".join(agent.services),
                f"{agent.running}/{agent.capacity}",
                formats.ago(agent.last_seen_time, now),
                agent.version,
                agent.agent_id,
            )
            for agent in found
        ],
    )
    for agent in found:
        for why in filter(None, (trust.reason_of(agent), trust.clock_of(agent))):
            session.terminal.note(f"{agent.name}: {why}")


@app.command("get")
def get(ctx: typer.Context, agent_id: _ID, output: _OUTPUT = options.Format.table) -> None:
    """Show one agent."""
    from opsconductor.cli import formats, trust
    from opsconductor.cli.plain import plain

    session = session_of(ctx)
    with session.client() as client:
        agent = client.get_agent(agent_id)
    if output is not options.Format.table:
        session.terminal.data(plain(agent), output)
        return
    session.terminal.fields(
        [
            ("agent", agent.name),
            ("id", agent.agent_id),
            ("state", state_word(agent)),
            *([("because", trust.reason_of(agent))] if trust.reason_of(agent) else []),
            ("segment", agent.segment),
            ("services", ", ".join(agent.services)),
            ("methods", ", ".join(agent.methods)),
            ("labels", ", ".join(f"{key}={agent.labels[key]}" for key in sorted(agent.labels))),
            ("running", f"{agent.running} of {agent.capacity}"),
            ("version", agent.version),
            ("last seen", formats.moment(agent.last_seen_time)),
            ("certificate", formats.moment(agent.certificate_expire_time)),
            ("clock", trust.clock_of(agent)),
        ]
    )


@app.command("drain")
def drain(
    ctx: typer.Context,
    agent_id: _ID,
    undo: Annotated[bool, typer.Option("--undo", help="Take the agent back into work.")] = False,
    output: _OUTPUT = options.Format.table,
) -> None:
    """Give an agent no new work; running work goes on."""
    session = session_of(ctx)
    with session.client() as client:
        _tell(session, client.drain_agent(agent_id, undo=undo), output)


@app.command("cordon")
def cordon(ctx: typer.Context, agent_id: _ID, output: _OUTPUT = options.Format.table) -> None:
    """Give an agent no new work: another word for drain, since nothing is moved off an agent."""
    drain(ctx, agent_id, undo=False, output=output)


@app.command("uncordon")
def uncordon(ctx: typer.Context, agent_id: _ID, output: _OUTPUT = options.Format.table) -> None:
    """Take an agent back into work: another word for drain --undo."""
    drain(ctx, agent_id, undo=True, output=output)


@app.command("release")
def release(
    ctx: typer.Context,
    agent_id: _ID,
    tool: Annotated[
        str, typer.Option(help="Only this tool; without it, the agent and all its tools.")
    ] = "",
    output: _OUTPUT = options.Format.table,
) -> None:
    """Take an agent out of quarantine, once you have seen to the cause ('agents get' tells it)."""
    session = session_of(ctx)
    with session.client() as client:
        _tell(session, client.release_agent(agent_id, tool=tool), output)


@app.command("retire")
def retire(
    ctx: typer.Context,
    agent_id: _ID,
    reason: Annotated[
        str, typer.Option("--reason", help="Why it will not come back, for the record.")
    ],
    output: _OUTPUT = options.Format.table,
) -> None:
    """Give up on an agent that will not come back, such as one whose host is destroyed.

    It is kept out, and changes it was given and has not reported become unknown; 'runs get' tells
    how to go on with each. An agent that is connected is not given up on.
    """
    from opsconductor.cli.escape import escape_name
    from opsconductor.cli.plain import plain

    session = session_of(ctx)
    with session.client() as client:
        answer = client.retire_agent(agent_id, reason)
    if output is not options.Format.table:
        session.terminal.data(plain(answer), output)
        return
    session.terminal.say(f"{answer.agent.name} retired")
    for step in answer.unknown_steps:
        session.terminal.note(
            f"step {escape_name(step.step_id)} of {step.execution_id} is unknown: look at its "
            f"target; opsctl runs get {step.execution_id} tells how to go on"
        )


@app.command("confirm-restore")
def confirm_restore(
    ctx: typer.Context,
    reason: Annotated[str, typer.Option("--reason", help="Why it was restored, for the record.")],
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="An agent that will not come back; may be repeated."),
    ] = None,
    planned: Annotated[
        bool,
        typer.Option("--planned", help="Even if nothing shows yet that it went back."),
    ] = False,
    output: _OUTPUT = options.Format.table,
) -> None:
    """Say that the store was restored from an older state, and let work go on.

    Agents hand over their journals first, so that what they have done is not done again. Work goes
    on when all have. An agent whose journal is lost is left out by name: it is quarantined, and
    every execution it may have gone on with after the backup is paused until you have looked.
    """
    from opsconductor.cli import trust
    from opsconductor.cli.plain import plain

    session = session_of(ctx)
    with session.client() as client:
        answer = client.confirm_restore(reason, without_agents=without or (), planned=planned)
    if output is not options.Format.table:
        session.terminal.data(plain(answer), output)
    elif answer.HasField("safe_mode"):
        trust.show(session.terminal, answer.safe_mode)
    else:
        session.terminal.say("the store is trusted again")


def _tell(session: Session, agent: Agent, output: options.Format) -> None:
    from opsconductor.cli.plain import plain

    if output is not options.Format.table:
        session.terminal.data(plain(agent), output)
    else:
        session.terminal.say(f"{agent.name} {state_word(agent)}")


@token_app.command("create")
def create_token(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the agent to come.")],
    segment: Annotated[str, typer.Option("--segment", "-s", help="Segment it will serve.")],
    ttl: Annotated[
        str, typer.Option(help="How long it is good, such as 15m; at most 24h.")
    ] = "15m",
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", help="Write the token file here, readable by you alone."),
    ] = None,
) -> None:
    """Make a token file that lets one new agent join, once. It is secret."""
    session = session_of(ctx)
    context = session.context()
    with session.client() as client:
        answer = client.create_join_token(name, segment, ttl=parse_ttl(ttl))
    if file is None:
        session.terminal.out.write(answer.token_file)
        session.terminal.out.flush()
        return
    path = Path(file).expanduser()
    write_secret(path, answer.token_file)
    session.terminal.say(f"wrote {path}")
    session.terminal.note(
        "on the agent's host: opsconductor-agent join "
        f"--endpoint {context.endpoint} --token-file {path} --data-dir DIR"
    )


def write_secret(path: Path, text: str) -> None:
    """Writes a new file for its owner only; raises UsageProblem when it cannot."""
    from opsconductor.cli.failure import UsageProblem

    try:
        path.unlink(missing_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(text)
    except OSError as error:
        raise UsageProblem(f"cannot write {path}: {error}") from error


def parse_ttl(text: str) -> timedelta:
    """Reads a duration such as ``90s``, ``15m`` or ``1h30m``; raises UsageProblem."""
    from opsconductor.cli.failure import UsageProblem

    if not re.fullmatch(r"(\d{1,6}[smh])+", text):
        raise UsageProblem(f"--ttl {text!r} is no duration; write it like 90s, 15m or 1h30m")
    parts = re.findall(r"(\d+)([smh])", text)
    return sum(
        (timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), start=timedelta()
    )


def state_word(agent: Agent) -> str:
    """Returns the word of an agent's state."""
    from opsconductor.cli.plain import word
    from opsconductor.v1.agent_admin_service_pb2 import AgentState

    return word(AgentState.DESCRIPTOR, agent.state)
