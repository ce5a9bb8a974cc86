"""Every Windows tool through the winrm executor to a WS-Man server: what arrives, what is read.

There is no Windows here: the server checks the command line, decodes what it gets as PowerShell
would, and answers with what Windows PowerShell writes for such a script.
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.hostile import HOSTILE, inputs_with
from helpers.places import MemorySink, new_attempt
from helpers.receivers import self_signed
from helpers.windows_outputs import CAPTURED, ERROR, OUTPUTS
from helpers.wsman_server import WsmanServer
from opsconductor.agent.executors.base import Call, Outcome
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.winrm.executor import WinRmExecutor
from opsconductor.tool_registry.inputs import check_inputs
from opsconductor.tool_registry.outputs.reading import OutputUnparsable, parse_output
from opsconductor.tool_registry.outputs.success import failure_reason
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.rendering.render import RenderError, render
from opsconductor.tool_registry.rendering.rendered import PowerShellScript

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from opsconductor.tool_registry.model import Tool

WINDOWS = [tool for tool in Registry.load().tools if tool.category == "windows"]
CHANGING = [tool for tool in WINDOWS if tool.capture is not None]
PASSWORD = "win-password"


class Windows:
    """A target, and the executor that reaches it."""

    def __init__(self, server: WsmanServer, executor: WinRmExecutor) -> None:
        self.server = server
        self._executor = executor
        self.target = {
            "name": "win-01",
            "address": "127.0.0.1",
            "connection": "winrm",
            "port": server.port,
        }

    async def run(
        self, call: PowerShellScript, stdout: str, stderr: str = "", code: int = 0
    ) -> tuple[Outcome, MemorySink, list[Mapping[str, Any]]]:
        """Returns the outcome, the output, and the parameters that arrived with the script."""
        arrived: list[Mapping[str, Any]] = []

        def answer(parameters: Mapping[str, Any]) -> tuple[bytes, bytes, int]:
            arrived.append(parameters)
            return stdout.encode(), stderr.encode(), code

        self.server.scripts = {call.body: answer}
        sink = MemorySink()
        attempt = Call(new_attempt(), call, self.target, timedelta(seconds=30))
        return await self._executor.run(attempt, sink, asyncio.Event()), sink, arrived


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WsmanServer, Path]]:
    folder = tmp_path_factory.mktemp("windows")
    pem = self_signed(folder)
    made = WsmanServer(pem, password=PASSWORD)
    yield made, pem
    made.stop()


@pytest.fixture
async def windows(server: tuple[WsmanServer, Path]) -> AsyncIterator[Windows]:
    made, pem = server
    settings = (("ca_file", str(pem)), ("transport", "basic"))
    credential = Credential("winrm", "ops", password=PASSWORD, settings=settings)
    executor = WinRmExecutor(lambda _: credential)
    yield Windows(made, executor)
    await executor.close()


def rendered(tool: Tool, inputs: Mapping[str, Any], target: Any, **more: Any) -> PowerShellScript:
    typed, faults = check_inputs(tool, inputs)
    assert faults == []
    call = render(tool, typed, target, **more)
    assert isinstance(call, PowerShellScript)
    return call


@pytest.mark.parametrize("tool", WINDOWS, ids=lambda tool: tool.name)
async def test_every_example_arrives_and_its_answer_is_read(windows: Windows, tool: Tool) -> None:
    answer = OUTPUTS.get(tool.name, '[{"Name":"x"}]')
    for example in tool.examples:
        if example.section != "command":
            continue
        call = rendered(tool, example.inputs, windows.target)
        outcome, sink, arrived = await windows.run(call, answer + "\r\n")
        assert (outcome.state, outcome.exit_code) == ("completed", 0), outcome.error
        assert arrived == [example.renders["powershell"]]
        output = parse_output(tool, sink.stdout, sink.stderr, 0)
        assert output["items"] == json.loads(answer)
        assert output.get("count", 0) in (0, len(output["items"]))
    assert len(set(windows.server.lines)) == 1, "a value stands in the command line"


@pytest.mark.parametrize("tool", WINDOWS, ids=lambda tool: tool.name)
async def test_a_hostile_value_arrives_as_it_is(windows: Windows, tool: Tool) -> None:
    texts = [key for key, one in tool.properties.items() if one["type"] == "string"]
    for name in texts:
        tried = {value: check_inputs(tool, inputs_with(tool, name, value)) for value in HOSTILE}
        taken = [value for value, (_, faults) in tried.items() if not faults]
        for value in taken[:: max(1, len(taken) // 4)]:
            inputs = tried[value][0]
            try:
                call = render(tool, inputs, windows.target)
            except RenderError:
                continue
            assert isinstance(call, PowerShellScript)
            _, _, arrived = await windows.run(call, "[]")
            assert arrived == [call.parameters]
            assert value in arrived[0].values()


@pytest.mark.parametrize("tool", CHANGING, ids=lambda tool: tool.name)
async def test_what_is_captured_is_read_and_leads_to_the_undo(windows: Windows, tool: Tool) -> None:
    assert tool.capture is not None
    inputs = tool.examples[0].inputs
    (name,) = tool.capture.output["schema"]["properties"]
    call = rendered(tool, inputs, windows.target, section="capture")
    _, sink, arrived = await windows.run(call, CAPTURED[name] + "\r\n")
    captured = parse_output(tool, sink.stdout, sink.stderr, 0, section="capture")
    assert set(captured) == {name}
    undo = rendered(tool, inputs, windows.target, section="undo", captured=captured)
    outcome, _, undone = await windows.run(undo, "")
    assert outcome.state == "completed"
    assert undone == [undo.parameters]
    assert set(arrived[0]) <= set(tool.properties)


async def test_a_script_that_throws_fails_with_what_it_said(windows: Windows) -> None:
    tool = next(one for one in WINDOWS if one.name == "get_service")
    call = rendered(tool, {"service_name": "nothing"}, windows.target)
    outcome, sink, _ = await windows.run(call, "", ERROR, 1)
    assert (outcome.exit_code, sink.stderr) == (1, ERROR.encode())
    output = parse_output(tool, sink.stdout, sink.stderr, 1)
    reason = failure_reason(
        tool, exit_code=1, output=output, inputs={}, stdout=sink.stdout, stderr=sink.stderr
    )
    assert reason is not None
    assert reason.startswith("exit code 1")


async def test_an_answer_that_is_no_json_is_not_taken_for_one(windows: Windows) -> None:
    tool = next(one for one in WINDOWS if one.name == "get_service")
    call = rendered(tool, {"service_name": "Spooler"}, windows.target)
    noise = "WARNING: Waiting for service to stop...\r\n[]\r\n"
    _, sink, _ = await windows.run(call, noise)
    with pytest.raises(OutputUnparsable, match="not JSON"):
        parse_output(tool, sink.stdout, sink.stderr, 0)


def test_enough_answers_are_real_ones() -> None:
    assert set(OUTPUTS) <= {tool.name for tool in WINDOWS}
    assert len(OUTPUTS) >= 15
