"""Checks a tool's dry run: another command than the call itself, and none known to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.rpc.errors import Fault
from opsconductor.tool_registry.inputs import check_inputs
from opsconductor.tool_registry.rendering.render import HttpRequest, RenderError, render
from opsconductor.tool_registry.rendering.rendered import (
    ArgvCommand,
    AwsCall,
    RedisCommand,
    SqlStatement,
)
from opsconductor.tool_registry.risk.commands import program_name
from opsconductor.tool_registry.risk.dry_runs import judge_dry_run
from opsconductor.tool_registry.risk.program_patterns import has_forms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opsconductor.tool_registry.model import Example, Tool
    from opsconductor.tool_registry.rendering.render import Rendered

_ASKED_BY = ("GET", "HEAD", "OPTIONS", "POST")
"""HTTP methods an interface may take a question by."""


def lint_dry_run(tool: Tool) -> Iterator[Fault]:
    """Yields the faults of a tool's dry run; none where it has none."""
    dry_run = tool.dry_run
    if dry_run is None:
        return
    if tool.annotations.read_only:
        yield _fault("dry_run", "a dry run of a read-only tool", "none: a dry run runs it as it is")
    if dry_run.command == tool.command:
        yield _fault("dry_run.command", "the command itself", "what only tells what it would do")
        return
    if not any(example.section == "dry_run" for example in tool.examples):
        yield _fault("examples", "none of the dry run", "an example with section: dry_run")
    for example in tool.examples:
        if example.section in ("command", "dry_run"):
            yield from _lint_example(tool, example)


def _lint_example(tool: Tool, example: Example) -> Iterator[Fault]:
    path = f"examples.{example.name} dry run"
    typed, faults = check_inputs(tool, example.inputs)
    if faults:
        return  # told where the example itself is checked
    try:
        dry = render(tool, typed, example.target, section="dry_run")
        call = render(tool, typed, example.target)
    except RenderError as exc:
        yield _fault(path, exc.message, "a command for every call")
        return
    if dry == call:
        yield _fault(path, "renders to the command itself", "another command")
    else:
        yield from _lint_effect(tool, dry, path)


def _lint_effect(tool: Tool, dry: Rendered, path: str) -> Iterator[Fault]:
    judged = judge_dry_run(dry)
    if judged.risk_class == "read_only":
        return
    if isinstance(dry, SqlStatement):
        if not (dry.dry_run or dry.read_only):
            yield _fault(path, "a statement that would be kept", "dry_run: true")
    elif isinstance(dry, AwsCall):
        yield _fault(path, judged.reason, "dry_run: true, or an operation that only reads")
    elif judged.risk_class == "modify" and not isinstance(dry, HttpRequest):
        yield _fault(path, f"modify by its command: {judged.reason}", "a command that only tells")
    if tool.dry_run is not None and tool.dry_run.read_only and not _can_answer(dry):
        yield _fault(path, f"read_only: true, but {judged.reason}", "read_only left out")


def _can_answer(dry: Rendered) -> bool:
    """Returns whether an author may say that nothing changes, where no parser says so."""
    match dry:
        case ArgvCommand(argv):
            return not has_forms(program_name(argv[0]) or "")
        case HttpRequest(method):
            return method in _ASKED_BY
        case SqlStatement() | RedisCommand() | AwsCall():
            return False
        case _:
            return True


def _fault(field: str, found: str, expected: str) -> Fault:
    return Fault(code="TOOL_LINT", field=field, found=found, expected=expected)
