"""README's commands are run in the order in which they are read, and each must succeed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import pytest

from helpers import doc_commands
from helpers.embedded_context import embedded_context, stop
from helpers.source_tree import ROOT

if TYPE_CHECKING:
    from helpers.doc_commands import Block

# Getting the repository and the make targets: .ci/run does both, in a fresh clone.
RUN_ELSEWHERE = {"git", "cd", "make"}


def script(blocks: list[Block]) -> str:
    """Returns one shell script; a failure names the document and line of its block."""
    lines = ["set -euo pipefail", "trap 'echo \"failed in the block at $AT\" >&2' ERR"]
    for block in blocks:
        lines += [f"AT={block.document}:{block.line}", block.body]
    return "\n".join(lines)


def is_run_here(block: Block) -> bool:
    programs = {PurePath(words[0]).name for words in doc_commands.commands(block)}
    return bool(programs - RUN_ELSEWHERE)


def write_into(folder: Path, deploy: Path) -> None:
    """Lets the example write there: in /tmp it would meet the file of another user's run."""
    example = deploy / "examples/change.yaml"
    text = example.read_text()
    assert "{folder: /tmp}" in text
    example.write_text(text.replace("{folder: /tmp}", f"{{folder: {folder}}}"))


@pytest.mark.timeout(300)
def test_the_commands_of_the_readme_succeed_in_their_order(tmp_path: Path) -> None:
    blocks = [block for block in doc_commands.blocks(ROOT / "README.md") if is_run_here(block)]
    workplace = tmp_path / "clone"
    workplace.mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in {".git", ".cache", ".opsconductor", "deploy"}:
            (workplace / entry.name).symlink_to(entry)
    write_into(tmp_path, shutil.copytree(ROOT / "deploy", workplace / "deploy"))
    with embedded_context(tmp_path / "context") as environment:
        try:
            done = subprocess.run(
                ["bash", "-c", script(blocks)],
                cwd=workplace,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            for context in workplace.glob("**/context.yaml"):
                stop(context.parent)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
