from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from opsconductor.cli.failure import NoContext
from opsconductor.cli.session import Session
from opsconductor.cli.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.opsctl import Opsctl


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.delenv("OPSCONDUCTOR_CONTEXT", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    files = {
        "home": tmp_path / "home/.config/opsconductor/context.yaml",
        "local": work / ".opsconductor/context.yaml",
        "variable": tmp_path / "variable.yaml",
        "option": tmp_path / "option.yaml",
    }
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    return files


def test_option_beats_variable_beats_folder_beats_home(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSCONDUCTOR_CONTEXT", str(places["variable"]))
    assert Session(Terminal(), str(places["option"])).context_path() == places["option"]
    assert Session(Terminal()).context_path() == places["variable"]
    monkeypatch.delenv("OPSCONDUCTOR_CONTEXT")
    assert Session(Terminal()).context_path().absolute() == places["local"]
    places["local"].unlink()
    assert Session(Terminal()).context_path() == places["home"]


def test_a_named_context_that_is_missing_is_never_replaced_by_another(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSCONDUCTOR_CONTEXT", "/not/there.yaml")
    with pytest.raises(NoContext, match=r"OPSCONDUCTOR_CONTEXT names /not/there.yaml"):
        Session(Terminal()).context_path()


def test_without_any_context_the_way_to_one_is_told(places: dict[str, Path]) -> None:
    places["local"].unlink()
    places["home"].unlink()
    with pytest.raises(NoContext, match="opsctl up --data-dir DIR --detach"):
        Session(Terminal()).context_path()


def test_a_missing_context_is_a_usage_error(
    opsctl: Opsctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSCONDUCTOR_CONTEXT", "/not/there.yaml")
    result = opsctl("runs", "list")
    assert (result.exit_code, result.stdout) == (2, "")
