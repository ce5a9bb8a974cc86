"""What is built is what was written, and it works where there is no source tree."""

from __future__ import annotations

import zipfile
from email import message_from_bytes
from typing import TYPE_CHECKING

from helpers import source_tree

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.wheels import Installation, Wheels

CATALOGUE = source_tree.ROOT / "tool_registry" / "tools"
WHERE = "import opsconductor.{part} as part; print(part.__path__[0])"


def content(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def metadata(wheel: Path) -> list[str]:
    """Returns the requirements that the wheel has without any extra."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        required = message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])
    return [line for line in required if "extra ==" not in line]


def test_every_file_of_every_part_is_in_a_wheel(wheels: Wheels) -> None:
    packed = content(wheels.server) | content(wheels.client)
    written = {
        path.relative_to(part.parents[1]).as_posix()
        for part in source_tree.parts()
        for path in source_tree.files(part)
    }
    catalogue = {
        f"opsconductor/tool_registry/tools/{path.relative_to(CATALOGUE).as_posix()}"
        for path in source_tree.files(CATALOGUE)
    }
    assert (written | catalogue) - packed == set()


def test_the_two_wheels_share_no_file(wheels: Wheels) -> None:
    assert content(wheels.server) & content(wheels.client) == set()


def test_the_client_library_needs_grpc_and_nothing_else(wheels: Wheels) -> None:
    needed = {line.partition(">")[0].partition("<")[0] for line in metadata(wheels.client)}
    assert needed == {"grpcio", "protobuf", "googleapis-common-protos"}


def test_every_part_is_imported_from_the_wheels(installed: Installation) -> None:
    for part in source_tree.parts():
        done = installed.run("python", "-c", WHERE.format(part=part.name))
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(str(installed.folder))


def test_the_installed_catalogue_is_the_one_in_the_repository(installed: Installation) -> None:
    code = (
        "from opsconductor.tool_registry.registry import Registry, tools_root\n"
        "print(tools_root()); print(*sorted(tool.name for tool in Registry.load().tools))"
    )
    done = installed.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    root, names = done.stdout.splitlines()
    assert root.startswith(str(installed.folder))
    assert len(names.split()) == len(list(CATALOGUE.rglob("*.yaml")))


def test_the_programs_start(installed: Installation) -> None:
    for program in ("opsctl", "opsconductor-orchestrator", "opsconductor-agent"):
        done = installed.run(program, "--help")
        assert done.returncode == 0, done.stderr
        assert "usage" in done.stdout.lower()


def test_the_client_alone_says_what_opsctl_up_needs(client_only: Installation) -> None:
    assert client_only.run("opsctl", "version").returncode == 0
    done = client_only.run("opsctl", "up", "--data-dir", str(client_only.folder / "data"))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "opsconductor" in done.stderr
    assert "install" in done.stderr
