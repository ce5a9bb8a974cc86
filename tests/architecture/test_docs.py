"""Every command that a document shows exists, with the options it is shown with."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import pytest
import typer.main

from helpers import doc_commands
from helpers.doc_commands import Block
from helpers.source_tree import ROOT
from opsconductor.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = re.compile(r"^(?P<names>[a-z][a-z -]*):(?!=)", re.MULTILINE)


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return {name for match in TARGET.finditer(text) for name in match["names"].split()}


def shown(program: str) -> Iterator[list[str]]:
    """Yields the arguments that the documents give to a program, however it is reached."""
    for block in doc_commands.all_blocks():
        for words in doc_commands.commands(block):
            if PurePath(words[0]).name == program:
                yield words[1:]


def fault(arguments: list[str]) -> str | None:
    """Returns what is wrong with an opsctl command line as it is shown, or None."""
    command: Any = typer.main.get_command(app)
    options = _options(command)
    for word in arguments:
        if word.startswith("-") and word != "-":
            name = word.partition("=")[0]
            if name not in options:
                return f"{command.name} has no option {name}"
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"{command.name} has no command {word}"
            command = command.commands[word]
            options |= _options(command)
    return None


def _options(command: Any) -> set[str]:
    return {"--help", "-h"} | {
        name for each in command.params for name in (*each.opts, *each.secondary_opts)
    }


def test_every_make_target_in_the_documents_exists() -> None:
    words = {word for arguments in shown("make") for word in arguments}
    named = {word for word in words if not word.startswith("-") and "=" not in word}
    assert named - targets() == set()


def test_every_opsctl_command_in_the_documents_exists() -> None:
    assert [(line, found) for line in shown("opsctl") if (found := fault(line))] == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["runs", "list", "-o", "json"], None),
        (["runs", "lst"], "runs has no command lst"),
        (["run", "ping", "host=web-1", "--target", "web-1"], None),
        (["run", "ping", "--quick"], "run has no option --quick"),
    ],
)
def test_a_command_line_that_does_not_exist_is_noticed(
    line: list[str], expected: str | None
) -> None:
    assert fault(line) == expected


def test_commands_are_found_behind_pipes_comments_and_here_documents() -> None:
    body = (
        "# a comment\nexport A=1\ncat >plan.yaml <<'END'\nsteps: []\nmake nonsense\nEND\n"
        "B=2 opsctl run \\\n  -f plan.yaml | jq . && make demo  # and more\n"
    )
    assert doc_commands.commands(Block("x.md", 1, body)) == [
        ["cat", ">", "plan.yaml", "<<", "END"],
        ["opsctl", "run", "-f", "plan.yaml"],
        ["jq", "."],
        ["make", "demo"],
    ]
