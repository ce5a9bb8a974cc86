"""Tool files are changed while an orchestrator and an agent run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from helpers.stack import Stack, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GREETING = """\
schema: opsconductor.tool/1
name: site_greeting
version: "{version}"
title: Greet
description: Say a word, as a site's own tool would.
platform: linux
category: linux
execution:
  {{location: automation-service, method: command, requires_target: false, target_type: host}}
parameters: {{type: object, properties: {{}}, required: [], additionalProperties: false}}
annotations: {{read_only: {read_only}, idempotent: true, open_world: false}}
command: {{argv: [echo, {word}]}}
{undo}timeout: 30s
estimate: {{base: 1s}}
output: {{parser: text}}
examples:
  - {{name: as it is, inputs: {{}}, renders: {{argv: [echo, {word}]}}}}
  - {{name: again, inputs: {{}}, renders: {{argv: [echo, {word}]}}}}
"""
SAYS_NOTHING = "undo: {strategy: not_needed, reason: a word changes nothing}\n"


def write(folder: Path, word: str, version: str = "1.0", *, changes: bool = False) -> None:
    text = GREETING.format(
        word=word,
        version=version,
        read_only=str(not changes).lower(),
        undo=SAYS_NOTHING if changes else "",
    )
    new = folder / "site_greeting.new"
    new.write_text(text)
    new.rename(folder / "site_greeting.yaml")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Stack, Path]]:
    """An embedded product with a tools folder of its own, empty at the start."""
    folder = tmp_path / "tools"
    folder.mkdir()
    stack = Stack(tmp_path)
    try:
        words = ("up", "--data-dir", str(stack.data), "--detach", "--tools", str(folder))
        answer = stack.opsctl(*words)
        assert answer.code == 0, answer.err
        yield stack, folder
    finally:
        stack.down()


def greeting(stack: Stack) -> Any:
    answer = stack.opsctl("run", "site_greeting", "-o", "json")
    if answer.code:
        return None
    return answer.json["step_results"][0]["output"]["text"].strip()


def version(stack: Stack) -> str:
    answer = stack.opsctl("tools", "show", "site_greeting", "-o", "json")
    return str(answer.json.get("version", "")) if answer.code == 0 else ""


def test_a_tool_that_is_added_or_changed_is_used_without_a_restart(
    site: tuple[Stack, Path],
) -> None:
    stack, folder = site
    assert stack.opsctl("run", "site_greeting").code == 2
    write(folder, "hello")
    wait_until(lambda: version(stack) == "1.0", "the new tool is known")
    assert greeting(stack) == "hello"
    write(folder, "welcome", "1.1")
    wait_until(lambda: version(stack) == "1.1", "the changed tool is known")
    assert greeting(stack) == "welcome"


def test_a_broken_file_is_told_by_doctor_and_the_former_tool_goes_on(
    site: tuple[Stack, Path],
) -> None:
    stack, folder = site
    write(folder, "hello")
    wait_until(lambda: version(stack) == "1.0", "the new tool is known")
    (folder / "site_greeting.yaml").write_text("schema: opsconductor.tool/1\nname: site_greeting\n")

    def told() -> list[str]:
        checks = stack.opsctl("doctor", "-o", "json").json["checks"]
        return [check["detail"] for check in checks if check["name"] == "tool file"]

    wait_until(told, "doctor tells of the broken file")
    assert len(told()) > 1
    assert all("site_greeting.yaml" in line for line in told())
    assert greeting(stack) == "hello"
    write(folder, "hello")
    wait_until(lambda: not told(), "the file is in order again")


def test_what_was_approved_with_another_definition_is_refused_by_the_agent(
    site: tuple[Stack, Path],
) -> None:
    stack, folder = site
    write(folder, "hello", changes=True)
    wait_until(lambda: version(stack) == "1.0", "the new tool is known")
    sent = stack.opsctl("run", "site_greeting", "--detach")
    execution = sent.out.split()[0]
    stack.wait_for(execution, "approval_required")
    write(folder, "goodbye", "1.1", changes=True)
    wait_until(lambda: version(stack) == "1.1", "the changed tool is known")
    listed = stack.json("approvals", "list")
    (approval,) = [item for item in listed if item["execution_id"] == execution]
    approved = stack.opsctl("approvals", "approve", approval["approval_id"], "--yes")
    assert approved.code == 0, approved.err
    ended = stack.wait_for(execution)
    assert ended["status"] == "failed", json.dumps(ended)
    error = ended["step_results"][0]["error"]
    assert error["code"] == "TOOL_DIGEST_MISMATCH"
    assert "version 1.1" in error["message"]
    assert "1.0" in error["message"]
