"""The exports say the same as pyproject.toml, with hashes, and nothing about any machine."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers.source_tree import ROOT

EXPORTS = ROOT / "deploy" / "requirements"
NAMES = ("installer.txt", "runtime.txt", "dev.txt", "bench.txt")
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    text = (EXPORTS / name).read_text(encoding="utf-8")
    return {canonicalize_name(match["name"]): match["version"] for match in PIN.finditer(text)}


def declared() -> dict[str, list[str]]:
    """Returns what the pyproject files ask for, by the export that has to hold it."""
    server = _document("pyproject.toml")
    client = _document("clients/pyproject.toml")
    groups: dict[str, list[str]] = server["dependency-groups"]
    runtime = list(groups["build"])
    for project in (server["project"], client["project"]):
        runtime += project["dependencies"]
        runtime += [text for extra in project["optional-dependencies"].values() for text in extra]
    return {
        "installer.txt": groups["installer"],
        "runtime.txt": [text for text in runtime if not text.startswith("opsconductor")],
        "dev.txt": groups["dev"],
        "bench.txt": groups["bench"],
    }


def _document(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("export", NAMES)
def test_an_export_holds_what_is_declared(export: str) -> None:
    pinned = pins(export)
    unmet = [
        text
        for text in declared()[export]
        if not Requirement(text).specifier.contains(
            pinned.get(canonicalize_name(Requirement(text).name), "0"), prereleases=True
        )
    ]
    assert unmet == [], "run 'make lock'"


@pytest.mark.parametrize(
    ("smaller", "larger"), [("runtime.txt", "dev.txt"), ("dev.txt", "bench.txt")]
)
def test_a_larger_set_changes_no_version_of_the_smaller_one(smaller: str, larger: str) -> None:
    assert pins(smaller).items() <= pins(larger).items()


@pytest.mark.parametrize("export", NAMES)
def test_every_package_has_hashes_and_no_address_is_named(export: str) -> None:
    text = (EXPORTS / export).read_text(encoding="utf-8")
    entries = PIN.split(text)[3::3]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert "--index" not in text
