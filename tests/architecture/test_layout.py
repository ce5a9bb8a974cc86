"""The house: where things stand, what they are called, and how large they may grow."""

from __future__ import annotations

import ast
import re

from helpers import source_tree
from helpers.source_tree import ROOT, relative

NAMES_AT_THE_TOP = {
    *("protos", "clients", "orchestrator", "agents", "tool_registry", "deploy", "tests"),
    *("Makefile", "pyproject.toml"),
    *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
}
LINES_IN_ONE_SITTING = 400
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
# Pieces of the hosts of package registries: which one is used is each machine's own business.
REGISTRIES = re.compile(r"://[^/\s\"']*(pypi|pythonhosted|npmjs|crates\.io|maven|golang|debian)")


def test_only_the_agreed_names_stand_at_the_top() -> None:
    found = {path.relative_to(ROOT).parts[0] for path in source_tree.files()}
    visible = {name for name in found if not name.startswith(".")}
    assert visible - NAMES_AT_THE_TOP == set()


def test_no_init_file_closes_the_namespace() -> None:
    shared = {ROOT / root / "opsconductor" for root in source_tree.SOURCE_ROOTS}
    roots = {folder.parent for folder in shared}
    closing = [folder for folder in shared | roots if (folder / "__init__.py").exists()]
    assert closing == [], "an __init__.py here hides every other part of opsconductor"


def test_every_part_says_that_it_is_typed() -> None:
    untyped = [relative(part) for part in source_tree.parts() if not (part / "py.typed").exists()]
    assert untyped == []


def test_every_package_says_in_one_sentence_what_it_is() -> None:
    silent = []
    for part in source_tree.parts():
        folders = {path.parent for path in source_tree.files(part, ".py")}
        for folder in sorted(folders):
            init = folder / "__init__.py"
            if not init.exists() or not ast.get_docstring(ast.parse(init.read_text())):
                silent.append(relative(folder))
    assert [name for name in silent if name != relative(source_tree.GENERATED)] == []


def test_every_file_can_be_read_in_one_sitting() -> None:
    lengths = {
        relative(path): path.read_bytes().count(b"\n") for path in source_tree.python_files()
    }
    too_long = {name: lines for name, lines in lengths.items() if lines > LINES_IN_ONE_SITTING}
    assert too_long == {}


def test_no_module_of_the_product_has_a_name_that_says_nothing() -> None:
    empty = [
        relative(path)
        for part in source_tree.parts()
        for path in source_tree.files(part, ".py")
        if NAMES_THAT_SAY_NOTHING & {path.stem, path.parent.name}
    ]
    assert empty == []


def test_nothing_knows_the_machine_it_was_written_on() -> None:
    knowing = []
    for path in source_tree.files():
        text = path.read_text(encoding="utf-8", errors="replace")
        if str(ROOT) in text or REGISTRIES.search(text):
            knowing.append(relative(path))
    assert knowing == []
