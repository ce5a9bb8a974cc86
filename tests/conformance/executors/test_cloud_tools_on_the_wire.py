"""Tools of kubectl, helm, az, gcloud and crictl through the local executor to programs that tell.

There is no cluster or cloud here: a program of the name notes its arguments and prints what the
real one prints.
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.cloud_outputs import CAPTURED, HELM_DOWN, HELM_NONE, OUTPUTS
from helpers.hostile import HOSTILE, inputs_with
from helpers.places import MemorySink, new_attempt
from opsconductor.agent.executors import environment, spawn
from opsconductor.agent.executors.base import Call
from opsconductor.agent.executors.local.executor import LocalExecutor
from opsconductor.tool_registry.inputs import check_inputs
from opsconductor.tool_registry.outputs.reading import parse_output
from opsconductor.tool_registry.outputs.success import failure_reason
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.rendering.render import ArgvCommand, RenderError, render

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from opsconductor.tool_registry.model import Tool
    from opsconductor.tool_registry.rendering.rendered import Rendered

REGISTRY = Registry.load()
PROGRAMS = ("kubectl", "helm", "az", "gcloud", "crictl")
TOOLS = [tool for tool in REGISTRY.tools if tool.command.get("argv", [""])[0] in PROGRAMS]
TARGET = {"name": "node-1", "address": "10.0.0.1"}


class Programs:
    """Stand-ins that note how they are called."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._executor = LocalExecutor(grace=timedelta(seconds=1), linger=timedelta(seconds=0.2))
        for name in PROGRAMS:
            program = folder / name
            program.write_text(
                "#!/bin/sh\n"
                f"{{ printf '%s\\0' {name} \"$@\"; printf '\\n'; }} >>'{folder}/called'\n"
                f"cat '{folder}/error' >&2\ncat '{folder}/answer'\n"
                f"exit $(cat '{folder}/code')\n"
            )
            program.chmod(0o755)
        # Where the tests are not root, what needs root goes through sudo.
        sudo = folder / "sudo"
        sudo.write_text('#!/bin/sh\n[ "$1 $2" = "-n --" ] && shift 2 && exec "$@"\n')
        sudo.chmod(0o755)

    async def run(
        self, rendered: Rendered, answer: str, *, error: str = "", code: int = 0
    ) -> tuple[int | None, MemorySink, list[list[str]]]:
        """Returns the exit code, the output, and the argument lists of what was called."""
        for name, text in (("answer", answer), ("error", error), ("code", str(code))):
            (self._folder / name).write_text(text)
        called = self._folder / "called"
        called.write_bytes(b"")
        sink = MemorySink()
        call = Call(new_attempt(), rendered, None, timedelta(seconds=30))
        outcome = await self._executor.run(call, sink, asyncio.Event())
        lines = called.read_bytes().split(b"\0\n")[:-1]
        return outcome.exit_code, sink, [line.decode().split("\0") for line in lines]

    async def close(self) -> None:
        """Closes the executor."""
        await self._executor.close()


@pytest.fixture
async def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Programs]:
    path = f"{tmp_path}:{environment.PATH}"
    monkeypatch.setattr(environment, "PATH", path)
    monkeypatch.setattr(spawn, "PATH", path)
    made = Programs(tmp_path)
    yield made
    await made.close()


def rendered(tool: Tool, inputs: Mapping[str, Any], **more: Any) -> Rendered:
    typed, faults = check_inputs(tool, inputs)
    assert faults == []
    return render(tool, typed, TARGET, **more)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
async def test_every_example_is_called_as_written_and_its_answer_is_read(
    programs: Programs, tool: Tool
) -> None:
    answer = OUTPUTS[tool.name]
    for example in tool.examples:
        if example.section != "command":
            continue
        call = rendered(tool, example.inputs)
        code, sink, called = await programs.run(call, answer)
        assert called == [example.renders["argv"]]
        output = parse_output(tool, sink.stdout, sink.stderr, code)
        reason = failure_reason(tool, exit_code=code, output=output, inputs=example.inputs)
        assert reason is None
        if tool.output["parser"] == "json":
            wanted = json.loads(answer)
            assert output == (wanted if isinstance(wanted, dict) else {"items": wanted})
        elif tool.output["parser"] == "lines":
            assert output["lines"] == answer.splitlines()


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
async def test_a_hostile_value_is_one_argument_of_the_program(
    programs: Programs, tool: Tool
) -> None:
    for name, schema in tool.properties.items():
        if schema["type"] != "string" or "enum" in schema:
            continue
        tried = {value: inputs_with(tool, name, value) for value in HOSTILE}
        taken = [value for value, inputs in tried.items() if not check_inputs(tool, inputs)[1]]
        for value in taken[:: max(1, len(taken) // 4)]:
            try:
                call = rendered(tool, tried[value])
            except RenderError:
                continue
            assert isinstance(call, ArgvCommand)
            _, _, called = await programs.run(call, "{}")
            assert called == [list(call.argv)]


@pytest.mark.parametrize(
    "tool", [one for one in TOOLS if one.capture is not None], ids=lambda tool: tool.name
)
async def test_what_is_captured_is_read_and_leads_to_the_undo(
    programs: Programs, tool: Tool
) -> None:
    assert tool.capture is not None
    inputs = tool.examples[0].inputs
    (name,) = tool.capture.output["schema"]["properties"]
    answer, expected = CAPTURED[name]
    if tool.name.startswith("helm"):
        answer = OUTPUTS["helm_history"].replace('"revision":3', '"revision":4')
    code, sink, called = await programs.run(rendered(tool, inputs, section="capture"), answer)
    assert (code, len(called)) == (0, 1)
    captured = parse_output(tool, sink.stdout, sink.stderr, code, section="capture")
    assert captured == expected
    if tool.undo.command is None:
        return
    undo = rendered(tool, inputs, section="undo", captured=captured)
    code, _, undone = await programs.run(undo, "")
    assert code == 0
    for argv in undone:
        assert argv[0] == called[0][0]
        assert not set(argv) & {"", "-n", "--namespace="}


@pytest.mark.parametrize(
    "name", [one.name for one in TOOLS if one.capture and one.name.startswith("helm")]
)
async def test_an_unreachable_cluster_is_not_taken_for_a_release_that_is_not_there(
    programs: Programs, name: str
) -> None:
    """Else the undo of an upgrade would remove a release that was there before."""
    tool = REGISTRY.get(name)
    capture = rendered(tool, tool.examples[0].inputs, section="capture")
    code, sink, _ = await programs.run(capture, "", error=HELM_NONE, code=1)
    assert code == 0
    assert parse_output(tool, sink.stdout, b"", 0, section="capture") == {"revision": 0}
    code, sink, _ = await programs.run(capture, "", error=HELM_DOWN, code=1)
    assert (code, sink.stdout) == (4, b"")
    assert HELM_DOWN.encode() in sink.stderr


def test_every_such_tool_has_an_answer_to_read() -> None:
    assert set(OUTPUTS) == {tool.name for tool in TOOLS}
