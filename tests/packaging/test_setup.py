"""`make setup`: what it does when there is nothing to do, too little to go on, or no permission."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from helpers.source_tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETUP = ROOT / "deploy" / "setup"
MODULES = ("setup", "environment", "permission", "progress", "system_packages")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of deploy/setup, as running it does, and forgets it afterwards."""
    monkeypatch.syspath_prepend(SETUP)
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def prepared(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns the setup module, pointed at an environment that looks complete but has no stamp."""
    setup = load("setup")
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").touch()
    (folder / "opsctl").touch()
    monkeypatch.setattr(setup, "STAMP", tmp_path / ".venv" / "setup.json")
    monkeypatch.setattr(setup, "PYTHON", folder / "python")
    monkeypatch.setattr(setup, "VENV", folder.parent)
    return setup


def stamp(setup: Any, *, chosen: str, key: str) -> None:
    setup.STAMP.write_text(json.dumps({"set": chosen, "key": key}))


def test_a_larger_set_serves_a_smaller_one_but_not_the_other_way(prepared: Any) -> None:
    stamp(prepared, chosen="dev", key="k")
    ready = [name for name in prepared.SETS if prepared.is_ready(name, "k")]
    assert ready == ["runtime", "dev"]


def test_a_changed_input_makes_the_environment_stale(prepared: Any) -> None:
    stamp(prepared, chosen="dev", key="before")
    assert not prepared.is_ready("runtime", "after")


def test_an_environment_without_opsctl_is_not_ready(prepared: Any) -> None:
    stamp(prepared, chosen="dev", key="k")
    (prepared.VENV / "bin" / "opsctl").unlink()
    assert not prepared.is_ready("runtime", "k")


@pytest.mark.parametrize("damaged", ["", "[]", "{", '{"set": "everything", "key": "k"}'])
def test_a_damaged_stamp_counts_as_none(prepared: Any, damaged: str) -> None:
    prepared.STAMP.write_text(damaged)
    assert not prepared.is_ready("runtime", "k")


def test_without_any_source_of_pip_one_line_says_what_helps(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, progress = load("environment"), load("progress")
    monkeypatch.setattr(environment, "_module_exists", lambda name: name == "venv")
    monkeypatch.setattr(environment, "SYSTEM_WHEELS", tmp_path / "none")
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    monkeypatch.setattr(environment.permission, "apt_commands", lambda packages: None)
    with pytest.raises(environment.EnvironmentImpossible, match="python3-venv"):
        environment.make(tmp_path / ".venv", progress.Progress("setup", tmp_path / "log"))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, False), ({"CI": "true"}, True), ({"YES": "1"}, True), ({"YES": "0"}, False)],
)
def test_system_packages_need_permission_where_nobody_can_be_asked(
    load: Any, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: bool
) -> None:
    permission = load("permission")
    for name in ("CI", "YES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(permission.sys.stdin, "isatty", lambda: False, raising=False)
    assert permission.may_install("a package") is expected


def test_a_failing_command_shows_the_end_of_what_it_printed(load: Any, tmp_path: Path) -> None:
    progress = load("progress")
    line = progress.Progress("setup", tmp_path / "log")
    with pytest.raises(progress.CommandFailed, match="trying: exit code 3"):
        line.run("trying", ["/bin/sh", "-c", "echo the reason; exit 3"])
    assert line.end_of_log().endswith("the reason")


def test_an_old_python_is_refused_in_a_sentence(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", str(SETUP / "setup")],
        env={**os.environ, "PYTHON": str(old), "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed (found: Python 3.9.2)" in done.stderr
