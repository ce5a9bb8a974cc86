"""Plan documents from files, standard input or a tool call on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from opsconductor.cli.arguments import parse_inputs
from opsconductor.cli.failure import UsageProblem
from opsconductor.rpc.errors import PlanInvalid

_LARGEST = 4 * 1024 * 1024
"""Larger plans are refused by the orchestrator anyway."""

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsconductor.client.sync_client import SyncClient
    from opsconductor.rpc.errors import Fault


def read_document(file: str, what: str = "plan") -> bytes:
    """Returns the bytes of a file, or of standard input for ``-``; raises UsageProblem."""
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).expanduser().read_bytes()
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageProblem(f"cannot read the {what} {file}: {why}") from error


def tool_document(
    client: SyncClient, name: str, words: Sequence[str], *, target: str, segment: str
) -> bytes:
    """Returns a plan of one step that calls a tool.

    Raises:
        UnknownTool: There is no such tool.
        PlanInvalid: Words are no inputs of the tool; names every mistake, with those the server
            finds in the rest.
    """
    from opsconductor.cli.plain import plain
    from opsconductor.rpc.status import fault_from_wire

    tool = client.get_tool(name)
    inputs, mistakes = parse_inputs(plain(tool.parameters), words)
    step = {"id": tool.name, "tool": tool.name, "inputs": inputs}
    if target:
        step["target"] = target
    if segment:
        step["segment"] = segment
    document = json.dumps({"version": "opsconductor/v1", "name": tool.name, "steps": [step]})
    if mistakes:
        more = [fault_from_wire(fault) for fault in client.validate(document.encode()).faults]
        raise PlanInvalid(
            f"these inputs do not fit {tool.name}", faults=[*mistakes, *_others(mistakes, more)]
        )
    return document.encode()


def as_dry_run(document: bytes) -> bytes:
    """Returns a plan in which every step is a dry run; raises PlanInvalid where it cannot be read.

    A plan in block style keeps its lines, so that faults are told where they stand.
    """
    from opsconductor.tool_registry.documents import yaml_reader

    value, _, faults = yaml_reader.load(document, max_bytes=_LARGEST)
    if faults or value is None:
        raise PlanInvalid("the plan could not be read", faults=faults)
    wanted = {**value, "dry_run": True}
    longer = document.rstrip() + b"\ndry_run: true\n"
    again, _, faults = yaml_reader.load(longer, max_bytes=_LARGEST)
    return longer if again == wanted and not faults else json.dumps(wanted).encode()


def _others(mistakes: Sequence[Fault], more: Sequence[Fault]) -> list[Fault]:
    """Returns the faults about fields that are not in the list yet.

    Faults of the step as a whole may only follow from the inputs that are left out here.
    """
    known = (*(fault.field for fault in mistakes), "]")
    return [fault for fault in more if not fault.field.endswith(known)]
