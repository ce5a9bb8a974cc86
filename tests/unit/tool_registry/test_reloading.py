"""Tool files that change while a process runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.reloading import ToolFolders
from opsconductor.tool_registry.roots import tools_root

if TYPE_CHECKING:
    from pathlib import Path

UPTIME = (tools_root() / "linux/uptime.yaml").read_text()


def moved(source: Path, destination: Path) -> Path:
    return source.rename(destination)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "uptime.yaml").write_text(UPTIME)
    return tmp_path


@pytest.fixture
def registry(folder: Path) -> Registry:
    return Registry.load([folder])


async def test_a_changed_file_is_taken_by_everybody_who_holds_the_registry(
    folder: Path, registry: Registry
) -> None:
    folders = ToolFolders(registry, [folder])
    before = registry.get("uptime").digest
    assert not await folders.look()
    (folder / "uptime.yaml").write_text(UPTIME.replace('version: "1.0"', 'version: "1.1"'))
    assert await folders.look()
    assert registry.get("uptime").version == "1.1"
    assert registry.get("uptime").digest != before
    assert not await folders.look()


async def test_files_are_added_and_removed(folder: Path, registry: Registry) -> None:
    folders = ToolFolders(registry, [folder])
    (folder / "more").mkdir()
    new = folder / "more/site_uptime.yaml"
    text = UPTIME.replace("name: uptime", "name: site_uptime", 1)
    new.write_text("\n".join(line for line in text.splitlines() if not line.startswith("aliases")))
    assert await folders.look()
    assert [tool.name for tool in registry.tools] == ["site_uptime", "uptime"]
    new.unlink()
    assert await folders.look()
    assert registry.find("site_uptime") is None


async def test_a_broken_file_keeps_its_definition_and_every_mistake_is_told(
    folder: Path, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    folders = ToolFolders(registry, [folder])
    before = registry.get("uptime")
    broken = UPTIME.replace("platform: linux", "platform: lynux").replace("timeout:", "timeoot:")
    (folder / "uptime.yaml").write_text(broken)
    with caplog.at_level(logging.ERROR):
        assert not await folders.look()
    assert registry.get("uptime") == before
    assert len(folders.faults) >= 2
    told = caplog.text
    assert "lynux" in told
    assert "timeoot" in told
    assert "uptime.yaml" in told
    (folder / "uptime.yaml").write_text(UPTIME + "# in order\n")
    await folders.look()
    assert folders.faults == ()


async def test_a_broken_file_does_not_keep_others_from_being_taken(
    folder: Path, registry: Registry
) -> None:
    folders = ToolFolders(registry, [folder])
    (folder / "broken.yaml").write_text("name: [")
    (folder / "uptime.yaml").write_text(UPTIME.replace('version: "1.0"', 'version: "2.0"'))
    assert await folders.look()
    assert registry.get("uptime").version == "2.0"
    assert {fault.field.partition(":")[0] for fault in folders.faults} == {"broken.yaml"}


async def test_a_name_that_two_files_share_changes_nothing(
    folder: Path, registry: Registry
) -> None:
    folders = ToolFolders(registry, [folder])
    (folder / "copy").mkdir()
    (folder / "copy/uptime.yaml").write_text(UPTIME.replace('version: "1.0"', 'version: "3.0"'))
    assert not await folders.look()
    assert registry.get("uptime").version == "1.0"
    assert {fault.code for fault in folders.faults} == {"DUPLICATE_TOOL"}


async def test_who_settles_takes_a_change_when_it_is_seen_twice(
    folder: Path, registry: Registry
) -> None:
    folders = ToolFolders(registry, [folder], settle=True)
    (folder / "uptime.yaml").write_text(UPTIME.replace('version: "1.0"', 'version: "1.1"'))
    assert not await folders.look()
    assert registry.get("uptime").version == "1.0"
    assert await folders.look()
    assert registry.get("uptime").version == "1.1"


async def test_a_folder_that_is_not_there_for_a_while_keeps_its_tools(
    folder: Path, registry: Registry
) -> None:
    folders = ToolFolders(registry, [folder])
    away = moved(folder, folder.with_name("away"))
    assert not await folders.look()
    assert registry.find("uptime") is not None
    moved(away, folder)
    assert not await folders.look()
