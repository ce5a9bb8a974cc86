"""Files that passed every check are not checked again, and nothing else is trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from opsconductor.tool_registry import checked
from opsconductor.tool_registry import registry as registries
from opsconductor.tool_registry.registry import Registry, ToolDefinitionInvalid
from opsconductor.tool_registry.scaffold import scaffold

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "my_tool.yaml").write_text(scaffold("my_tool", "linux"))
    return folder


def test_the_second_load_gives_the_same_tool_without_checking(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Registry.load([tools]).get("my_tool")
    monkeypatch.setattr(registries, "check_file", None)
    second = Registry.load([tools]).get("my_tool")
    assert second.digest == first.digest
    assert second.source == first.source


def test_a_changed_file_is_checked_again(tools: Path) -> None:
    Registry.load([tools])
    file = tools / "my_tool.yaml"
    file.write_text(file.read_text().replace("read_only: true", "read_only: maybe"))
    with pytest.raises(ToolDefinitionInvalid):
        Registry.load([tools])


def test_a_file_under_another_name_is_checked_again(tools: Path) -> None:
    Registry.load([tools])
    (tools / "my_tool.yaml").rename(tools / "other.yaml")
    with pytest.raises(ToolDefinitionInvalid):
        Registry.load([tools])


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"x": 1}'])
def test_a_damaged_cache_costs_only_time(tools: Path, damage: bytes) -> None:
    first = Registry.load([tools]).get("my_tool")
    (cache,) = (tools.parent / "cache").rglob("tools-*.json")
    cache.write_bytes(damage)
    assert Registry.load([tools]).get("my_tool").digest == first.digest


def test_a_cache_that_cannot_be_written_costs_only_time(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert Registry.load([tools]).get("my_tool")


def test_a_cache_others_could_have_written_is_not_believed(tools: Path) -> None:
    first = Registry.load([tools]).get("my_tool")
    (cache,) = (tools.parent / "cache").rglob("tools-*.json")
    cache.write_text(cache.read_text().replace("uname", "reboot"))
    cache.chmod(0o666)
    assert Registry.load([tools]).get("my_tool").command == first.command


def test_caches_of_earlier_code_do_not_pile_up(tools: Path) -> None:
    folder = tools.parent / "cache/opsconductor"
    folder.mkdir(parents=True)
    for number in range(9):
        (folder / f"tools-{number}.json").write_text("{}")
    Registry.load([tools])
    assert len(list(folder.glob("tools-*.json"))) == 4


def test_what_another_process_compiles_or_removes_meanwhile_is_no_error(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tools.parent / "package"
    (package / "__pycache__").mkdir(parents=True)
    (package / "rules.py").write_text("")
    (package / "__pycache__" / "rules.pyc.1401").symlink_to(package / "gone")
    monkeypatch.setattr(checked, "_PACKAGE", package)
    cache = tools.parent / "cache" / "opsconductor"
    cache.mkdir(parents=True)
    (cache / "tools-0.json").symlink_to(cache / "gone")
    assert Registry.load([tools]).get("my_tool").name == "my_tool"
