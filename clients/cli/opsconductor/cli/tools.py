"""``opsctl tools``: the tools that steps can call."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from opsconductor.cli import options, structured, tool_files, tool_output
from opsconductor.cli.session import session_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsconductor.cli.terminal import Terminal
    from opsconductor.v1.tool_service_pb2 import Tool

app = typer.Typer(no_args_is_help=True, help="List, find, look at and write tools.")
tool_files.add_to(app)

_OUTPUT = Annotated[options.Format, options.OUTPUT]


@app.command("list")
def list_tools(
    ctx: typer.Context,
    category: Annotated[str, typer.Option(help="Only this category, such as linux.")] = "",
    platform: Annotated[str, typer.Option(help="Only this platform, such as windows.")] = "",
    limit: Annotated[int, options.LIMIT] = 1000,
    output: _OUTPUT = options.Format.table,
) -> None:
    """List tools by name."""
    from opsconductor.cli.paging import collect

    session = session_of(ctx)
    with session.client() as client:
        found = collect(
            lambda size, token: client.list_tools(
                category=category, platform=platform, page_size=size, page_token=token
            ),
            lambda page: page.tools,
            limit=limit,
            page_size=500,
        )
    _list(session.terminal, found, output)


@app.command("search")
def search(
    ctx: typer.Context,
    words: Annotated[list[str], typer.Argument(help="Words of a question, a name or a keyword.")],
    limit: Annotated[int, options.LIMIT] = 20,
    output: _OUTPUT = options.Format.table,
) -> None:
    """Find tools by words, best first."""
    session = session_of(ctx)
    with session.client() as client:
        found = client.search_tools(" ".join(words), page_size=limit).tools
    _list(session.terminal, found, output)


@app.command("get", hidden=True)
@app.command("show")
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or alias.")],
    output: _OUTPUT = options.Format.table,
) -> None:
    """Show a tool with its parameters and the fields of its output."""
    from opsconductor.cli import formats
    from opsconductor.cli.plain import plain
    from opsconductor.cli.preview import risk_class, risk_word

    session = session_of(ctx)
    with session.client() as client:
        tool = client.get_tool(name)
    terminal = session.terminal
    if output is not options.Format.table:
        terminal.data(plain(tool), output)
        return
    terminal.say(f"{tool.name} {tool.version}", style="bold")
    terminal.fields(
        [
            ("", tool.description),
            ("also", ", ".join(tool.aliases)),
            ("runs as", f"{tool.method} in {tool.location}"),
            ("target", "needed" if tool.requires_target else "optional or none"),
            ("platform", f"{tool.platform}, {tool.category}"),
            ("risk", f"{risk_word(tool.risk)} ({risk_class(tool.risk)})"),
            ("why", "\n".join(tool.risk.reasons)),
            ("undo", tool.undo),
            ("dry run", "yes" if tool.dry_run else ""),
            ("probe", tool.probe),
            ("timeout", formats.span(tool.timeout) if tool.HasField("timeout") else ""),
            ("digest", tool.digest),
            ("answers", "\n".join(tool.use_cases)),
        ]
    )
    _parameters(terminal, plain(tool.parameters))
    _output(terminal, plain(tool.output_schema), structured.column_order(tool.definition))


@app.command("render")
def render(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or alias.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Inputs.")
    ] = None,
    target: Annotated[str, typer.Option("--target", "-t", help="Asset, host or address.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the tool's dry run instead.")
    ] = False,
    output: _OUTPUT = options.Format.table,
) -> None:
    """Show the command a tool would run, and the risk of this very call; run nothing."""
    from opsconductor.cli.arguments import parse_inputs
    from opsconductor.cli.plain import plain
    from opsconductor.cli.preview import risk_class, risk_word
    from opsconductor.rpc.errors import PlanInvalid

    session = session_of(ctx)
    with session.client() as client:
        tool = client.get_tool(name)
        inputs, mistakes = parse_inputs(plain(tool.parameters), words or [])
        if mistakes:
            raise PlanInvalid(f"these inputs do not fit {tool.name}", faults=mistakes)
        answer = client.render_tool(tool.name, inputs, target=target, dry_run=dry_run)
    if output is not options.Format.table:
        session.terminal.data(plain(answer), output)
        return
    session.terminal.say(answer.command)
    reasons = "; ".join(answer.risk.reasons)
    session.terminal.note(f"risk: {risk_word(answer.risk)} ({risk_class(answer.risk)}) {reasons}")


class ExportFormat(StrEnum):
    """Shapes of exported tools."""

    mcp = "mcp"
    functions = "functions"


@app.command("export")
def export(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Names or aliases; all unless given."),
    ] = None,
    shape: Annotated[
        ExportFormat,
        typer.Option("--format", help="An MCP tool list, or JSON-Schema functions."),
    ] = ExportFormat.mcp,
    category: Annotated[str, typer.Option(help="Only this category, such as linux.")] = "",
) -> None:
    """Write tools as JSON for models and pipelines, with hints computed from their risk."""
    from opsconductor.v1 import tool_service_pb2 as pb

    formats = {
        ExportFormat.mcp: pb.EXPORT_FORMAT_MCP,
        ExportFormat.functions: pb.EXPORT_FORMAT_FUNCTIONS,
    }
    session = session_of(ctx)
    with session.client() as client:
        document = client.export_tools(formats[shape], category=category, names=names or [])
    session.terminal.data(json.loads(document), options.Format.json)


def _list(terminal: Terminal, found: Sequence[Tool], output: options.Format) -> None:
    from opsconductor.cli.plain import plain
    from opsconductor.cli.preview import risk_word

    if output is not options.Format.table:
        terminal.data([plain(tool) for tool in found], output)
        return
    terminal.table(
        ("TOOL", "RISK", "CATEGORY", "METHOD", "DESCRIPTION"),
        [
            (tool.name, risk_word(tool.risk), tool.category, tool.method, tool.description)
            for tool in found
        ],
    )


def _parameters(terminal: Terminal, schema: dict[str, object]) -> None:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        terminal.say("\ntakes no inputs")
        return
    required = schema.get("required")
    needed = set(required) if isinstance(required, list) else set()
    terminal.say("")
    terminal.table(
        ("INPUT", "TYPE", "NEEDED", "DEFAULT", "MEANING"),
        [
            (
                key,
                tool_output.type_of(value),
                "yes" if key in needed else "",
                json.dumps(value["default"]) if "default" in value else "",
                str(value.get("description", "")),
            )
            for key, value in properties.items()
        ],
    )


def _output(terminal: Terminal, schema: dict[str, object], order: Sequence[str]) -> None:
    if rows := tool_output.rows(schema, order):
        terminal.say("")
        terminal.table(("OUTPUT", "TYPE", "MEANING"), rows)
