"""``opsctl tools new|check|import``: tool definitions as files, without any orchestrator."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opsconductor.cli.session import session_of
from opsconductor.rpc.errors import DocumentInvalid, Fault, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CATEGORIES = "linux, windows, database, cloud, container, monitoring, communication, asset, network"


def check(
    ctx: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Tool files, or folders of them; the shipped tools unless given."),
    ] = None,
) -> None:
    """Check tool files and name every mistake: schema, placeholders, risk, examples."""
    _need_definitions()
    from opsconductor.tool_registry.registry import Registry
    from opsconductor.tool_registry.roots import tools_root

    roots = paths or [tools_root()]
    found = Registry.check(roots)
    if found.faults:
        raise DocumentInvalid(
            f"{len(found.faults)} mistake(s) in {found.files} tool file(s)", faults=found.faults
        )
    session_of(ctx).terminal.say(f"{found.files} tool(s), no mistake")


def new(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the tool, such as count_users.")],
    command: Annotated[
        str,
        typer.Option("--command", "-c", help="Command to begin with; {name} becomes a parameter."),
    ] = "uname -a",
    category: Annotated[str, typer.Option(help=CATEGORIES)] = "linux",
    folder: Annotated[Path, typer.Option("--folder", "-d", help="Where the file goes.")] = Path(),
) -> None:
    """Write a first tool file that passes the checks; then change it to say what you mean."""
    _need_definitions()
    from opsconductor.tool_registry.scaffold import scaffold, words_of

    text = scaffold(name, category, words_of(command))
    file = _written(folder / f"{name}.yaml", text)
    terminal = session_of(ctx).terminal
    terminal.say(f"wrote {file}")
    terminal.note(f"change it, then: opsctl tools check {file}")


def import_older(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="Files of an older shape, or folders.")],
    folder: Annotated[Path, typer.Option("--folder", "-d", help="Where the files go.")] = Path(),
) -> None:
    """Convert tool files of older shapes (tool_name, command_template), or say why not."""
    _need_definitions()
    faults: list[Fault] = []
    written = 0
    for file in _files(paths):
        text, found = _converted(file)
        faults += found
        if text and not found:
            name = text.split("name: ", 1)[1].split("\n", 1)[0]
            _written(folder / f"{name}.yaml", text)
            written += 1
    session_of(ctx).terminal.say(f"converted {written} file(s) into {folder}")
    if faults:
        raise DocumentInvalid(f"{len(faults)} reason(s) not to convert the rest", faults=faults)


def _need_definitions() -> None:
    """Refuses where only the client is installed."""
    if importlib.util.find_spec("opsconductor.tool_registry") is None:
        raise InvalidArgument(
            "tool definitions come with the package opsconductor, which is not installed here"
        )


def _converted(file: Path) -> tuple[str, Sequence[Fault]]:
    from dataclasses import replace

    from opsconductor.tool_registry import older_shapes
    from opsconductor.tool_registry.documents import yaml_reader

    document, _, faults = yaml_reader.load(
        _read(file), max_bytes=1 << 20, too_large="TOOL_TOO_LARGE"
    )
    text = ""
    if isinstance(document, dict) and not faults:
        if not older_shapes.is_older_shape(document):
            expected = "tool_name, command_template or tool:"
            faults = [Fault("NOT_AN_OLDER_SHAPE", found="none of its keys", expected=expected)]
        else:
            text, faults = older_shapes.converted(document)
    placed = [replace(fault, field=f"{file.name}: {fault.field}".rstrip(": ")) for fault in faults]
    return text, placed


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.rglob("*.y*ml"))
        else:
            yield path


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise InvalidArgument(f"{file} cannot be read: {exc.strerror}") from exc


def _written(file: Path, text: str) -> Path:
    """Writes a file that is not there yet."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError as exc:
        raise InvalidArgument(f"{file} exists already; name another folder with --folder") from exc
    except OSError as exc:
        raise InvalidArgument(f"{file} cannot be written: {exc.strerror}") from exc
    return file


def add_to(app: typer.Typer) -> None:
    """Adds these commands to ``opsctl tools``."""
    app.command("check")(check)
    app.command("new")(new)
    app.command("import")(import_older)
