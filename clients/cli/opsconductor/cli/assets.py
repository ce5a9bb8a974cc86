"""``opsctl assets``: the hosts and devices that steps name as targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from opsconductor.cli import options
from opsconductor.cli.session import session_of

if TYPE_CHECKING:
    from opsconductor.cli.session import Session
    from opsconductor.v1.inventory_service_pb2 import ImportAssetsResponse

app = typer.Typer(no_args_is_help=True, help="List, add and import assets.")

_OUTPUT = Annotated[options.Format, options.OUTPUT]


@app.command("list")
def list_assets(
    ctx: typer.Context,
    limit: Annotated[int, options.LIMIT] = 1000,
    output: _OUTPUT = options.Format.table,
) -> None:
    """List assets by name."""
    from opsconductor.cli.paging import collect
    from opsconductor.cli.plain import plain

    session = session_of(ctx)
    with session.client() as client:
        found = collect(
            lambda size, token: client.list_assets(page_size=size, page_token=token),
            lambda page: page.assets,
            limit=limit,
            page_size=1000,
        )
    if output is not options.Format.table:
        session.terminal.data([plain(asset) for asset in found], output)
        return
    session.terminal.table(
        ("ASSET", "TYPE", "ADDRESS", "SEGMENT", "CONNECTION", "ENVIRONMENT", "TAGS"),
        [
            (
                asset.name,
                asset.type,
                f"{asset.address}:{asset.port}" if asset.port else asset.address,
                asset.segment,
                asset.connection,
                asset.environment,
                ", ".join(asset.tags),
            )
            for asset in found
        ],
    )


@app.command("add")
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Unique name.")],
    kind: Annotated[str, typer.Option("--type", help="Kind, such as linux_server.")],
    address: Annotated[str, typer.Option(help="Address or host name; default: the name.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the connection.")] = 0,
    segment: Annotated[str, typer.Option("--segment", "-s", help="Who reaches it.")] = "",
    connection: Annotated[str, typer.Option(help="local, ssh, winrm, http or https.")] = "",
    credential: Annotated[
        str, typer.Option(help="Name of a credential in the agent's own store; never a secret.")
    ] = "",
    service_manager: Annotated[str, typer.Option(help="systemd, sysv or command.")] = "",
    service_command: Annotated[
        str, typer.Option(help="For 'command': path that is called with ACTION SERVICE.")
    ] = "",
    environment: Annotated[str, typer.Option(help="production, staging and so on.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="May be repeated.")] = None,
    host_key: Annotated[
        list[str] | None, typer.Option("--host-key", help="SSH host key; may be repeated.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="KEY=VALUE; may be repeated.")
    ] = None,
    output: _OUTPUT = options.Format.table,
) -> None:
    """Add an asset, or replace the one of that name."""
    from opsconductor.v1.inventory_service_pb2 import Asset

    asset = Asset(
        name=name,
        type=kind,
        address=address,
        port=port,
        segment=segment,
        connection=connection,
        credential=credential,
        service_manager=service_manager,
        service_command=service_command,
        environment=environment,
        tags=tag or [],
        host_keys=host_key or [],
        labels=_labels(label or []),
    )
    session = session_of(ctx)
    with session.client() as client:
        _tell(session, client.import_assets(assets=[asset]), output)


@app.command("import")
def import_assets(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="YAML or JSON: {assets: [...], segments: [...]}; '-' reads standard input.",
        ),
    ],
    output: _OUTPUT = options.Format.table,
) -> None:
    """Add or replace all assets of a file, or none when one is wrong.

    A list 'segments' of {name, cidrs, dns} becomes the whole segments map: it says which agent
    reaches a target that is a bare address or host name.
    """
    from opsconductor.cli.documents import read_document

    session = session_of(ctx)
    document = read_document(file, "inventory")
    with session.client() as client:
        _tell(session, client.import_assets(document=document), output)


@app.command("delete")
def delete(
    ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]
) -> None:
    """Delete an asset; plans that name it take it for a host name from then on."""
    session = session_of(ctx)
    with session.client() as client:
        client.delete_asset(name)
    session.terminal.say(f"{name} deleted")


def _labels(words: list[str]) -> dict[str, str]:
    from opsconductor.cli.failure import UsageProblem

    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise UsageProblem(f"--label wants KEY=VALUE, not {', '.join(wrong)}")
    return dict(word.split("=", 1) for word in words)


def _tell(session: Session, answer: ImportAssetsResponse, output: options.Format) -> None:
    from opsconductor.cli.plain import plain

    if output is options.Format.table:
        session.terminal.say(f"{answer.created} created, {answer.updated} updated")
    else:
        session.terminal.data(plain(answer), output)
