"""Tool definitions of the chaos suite, written for one run: they name its program and ledger."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("program.py")

_DEFINITION = """\
schema: opsconductor.tool/1
name: {name}
version: "1.0"
title: {title}
description: {title}, and write into the ledger of the chaos suite that it happened.
use_cases: [tests]
keywords: [chaos]
platform: linux
category: linux
execution: {{location: automation-service, method: command, requires_target: false, target_type: host}}
parameters:
  type: object
  properties:
    key: {{type: string, format: text, maxLength: 200, description: names this call in the ledger}}
    bytes: {{type: integer, minimum: 0, maximum: 100000000, default: 0, description: output}}
    milliseconds: {{type: integer, minimum: 0, maximum: 600000, default: 0, description: takes}}
    code: {{type: integer, minimum: 0, maximum: 100, default: 0, description: exit code}}
    failures: {{type: integer, minimum: 0, maximum: 100, default: 0, description: fails first}}
    tree: {{type: integer, minimum: 0, maximum: 1, default: 0, description: grow a process tree}}
  required: [key]
  additionalProperties: false
annotations: {{read_only: {reads}, destructive: false, idempotent: {idempotent}, open_world: false}}
command:
  argv: [{python}, "-I", "-S", {program}, {ledger}, {role}, "--", "{{key}}", "{{bytes}}", "{{milliseconds}}", "{{code}}", "{{failures}}", "{{tree}}"]
{undo}timeout: 5m
output:
  parser: text
  schema:
    type: object
    required: [text]
    properties:
      text: {{type: string, description: standard output}}
      truncated: {{type: boolean, description: whether the text was cut}}
examples:
  - name: one
    inputs: {{key: one}}
    renders: {{argv: [{python}, "-I", "-S", {program}, {ledger}, {role}, "--", one, "0", "0", "0", "0", "0"]}}
    risk: {risk}
  - name: two
    inputs: {{key: two, code: 3}}
    renders: {{argv: [{python}, "-I", "-S", {program}, {ledger}, {role}, "--", two, "0", "0", "3", "0", "0"]}}
    risk: {risk}
"""  # noqa: E501 - one argument list

_UNDO = """\
undo:
  strategy: none
  reason: an undo is given in the plan
"""

TOOLS = {
    "chaos_change": ("Change something that must not be changed twice", False, False),
    "chaos_set": ("Set something, which may be repeated", False, True),
    "chaos_read": ("Look at something", True, True),
}


def write_tools(folder: Path, ledger: Path) -> Path:
    """Writes the definitions into a folder and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (title, reads, idempotent) in TOOLS.items():
        text = _DEFINITION.format(
            name=name,
            title=title,
            reads=str(reads).lower(),
            idempotent=str(idempotent).lower(),
            python=sys.executable,
            program=PROGRAM,
            ledger=ledger,
            role=_role(reads, idempotent),
            undo="" if reads else _UNDO,
            risk="read_only" if reads else "modify",
        )
        (folder / f"{name}.yaml").write_text(text)
    return folder


def call(tool: str, key: str, **inputs: Any) -> dict[str, Any]:
    """Returns a call of one of the tools, as a plan writes it."""
    return {"tool": tool, "inputs": {"key": key, **inputs}}


def _role(reads: bool, idempotent: bool) -> str:
    if reads:
        return "read"
    return "retry" if idempotent else "change"
