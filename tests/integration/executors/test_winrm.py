"""WinRM against a WS-Management server of our own, which foreign clients check first."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.places import MemorySink, marked_processes, new_attempt, until
from helpers.receivers import self_signed
from helpers.servers import free_port
from helpers.windows_command_line import windows_arguments
from helpers.wsman_server import TOO_MANY, Fault, WsmanServer
from opsconductor.agent.executors.base import Call, Outcome
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.winrm.command import ErrorText
from opsconductor.agent.executors.winrm.executor import WinRmExecutor
from opsconductor.agent.executors.winrm.line import BOOTSTRAP, command_line_of
from opsconductor.tool_registry.rendering.rendered import (
    ArgvCommand,
    HttpRequest,
    PowerShellScript,
    Rendered,
    ScriptCommand,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PASSWORD = "win-password"
NASTY = ["", " ", "a b", "'", '"', 'a"b c', "a\\", "a\\\\ b\\", '\\"', "%PATH%", "& calc", "^", "!"]
NASTY += ["$(x)", "`n", "ümläut 日本 🎉", "-x", "/c", "|", "\t", "‘’‚‛“”"]


@pytest.fixture
def server(wsman_server: WsmanServer) -> WsmanServer:
    return wsman_server


class Host:
    """A Windows host as the executor sees it."""

    def __init__(self, server: WsmanServer, folder: Path, transport: str = "ntlm") -> None:
        settings = (("transport", transport), ("ca_file", str(folder / "server.pem")))
        self.credential = Credential("winrm", "ops", password=PASSWORD, settings=settings)
        self.executor = WinRmExecutor(lambda _: self.credential)
        self.target = {"name": "win-01", "address": "127.0.0.1", "connection": "winrm"}
        self.target |= {"port": server.port, "credential": "win"}  # type: ignore[dict-item]
        self.sink = MemorySink()
        self.cancel = asyncio.Event()

    async def run(self, rendered: Rendered, *, seconds: float = 30, **options: Any) -> Outcome:
        name = options.pop("attempt_id", None) or new_attempt()
        call = Call(name, rendered, self.target, timedelta(seconds=seconds), **options)
        return await self.executor.run(call, self.sink, self.cancel)

    async def argv(self, *argv: str, **options: Any) -> Outcome:
        return await self.run(ArgvCommand(argv), **options)

    async def cmd(self, body: str, **options: Any) -> Outcome:
        return await self.run(ScriptCommand("cmd", body), **options)


@pytest.fixture
async def host(server: WsmanServer, tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(server, tmp_path)
    yield made
    await made.executor.close()


def told(outcome: Outcome) -> tuple[str, str, str, str]:
    assert outcome.error is not None, outcome
    return outcome.state, outcome.effects, outcome.error.code, outcome.error.error_class


@pytest.mark.parametrize("way", ["basic", "ntlm"])
async def test_output_and_exit_code_arrive(server: WsmanServer, tmp_path: Path, way: str) -> None:
    host = Host(server, tmp_path, way)
    outcome = await host.cmd("echo out; echo err >&2; exit 7")
    assert (outcome.state, outcome.exit_code, outcome.effects) == ("completed", 7, "done")
    assert (host.sink.stdout, host.sink.stderr) == (b"out\n", b"err\n")
    assert (await host.cmd("true", read_only=True)).effects == "none"
    await host.executor.close()


async def test_a_login_serves_many_commands_and_each_has_a_shell_of_its_own(
    host: Host, server: WsmanServer
) -> None:
    for _ in range(3):
        assert (await host.cmd("true")).exit_code == 0
    assert server.logins == 1
    assert server.actions.count("Create") == server.actions.count("Delete") == 3
    assert server.shells == {}


async def test_nasty_arguments_arrive_unchanged(host: Host) -> None:
    outcome = await host.argv("printf", "%s\\0", *NASTY)
    assert outcome.state == "completed", outcome.error
    assert host.sink.stdout.split(b"\0")[:-1] == [text.encode() for text in NASTY]


@given(st.lists(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"])), max_size=5))
def test_every_argument_is_one_argument(words: list[str]) -> None:
    words = [word.replace("\x7f", "").replace("\ufffe", "").replace("\uffff", "") for word in words]
    line = command_line_of(ArgvCommand(("tool.exe", *words)))
    assert windows_arguments(" ".join([line.program, *line.arguments])) == ["tool.exe", *words]


async def test_powershell_parameters_are_bound_and_never_in_the_command_line(
    host: Host, server: WsmanServer
) -> None:
    body = "param([string]$Name, [int]$Count)\nGet-Service -Name $Name"
    seen: list[Any] = []

    def reply(parameters: Any) -> tuple[bytes, bytes, int]:
        seen.append(parameters)
        return json.dumps({"Name": parameters["Name"]}).encode(), b"", 0

    server.scripts[body] = reply
    for text in [*NASTY, "'; Remove-Item C:\\ -Recurse #", "\n'@\nevil", "\0", "x" * 200_000]:
        host.sink = MemorySink()
        outcome = await host.run(PowerShellScript(body, {"Name": text, "Count": 3}))
        assert (outcome.state, outcome.exit_code) == ("completed", 0), outcome.error
        assert json.loads(host.sink.stdout) == {"Name": text}
        assert seen[-1] == {"Name": text, "Count": 3}
    assert len(set(server.lines)) == 1


def test_the_bootstrap_holds_nothing_of_a_call() -> None:
    first = command_line_of(PowerShellScript("Get-Process", {"a": "b"}))
    second = command_line_of(PowerShellScript("Get-Service", {}))
    assert (first.program, first.arguments) == (second.program, second.arguments)
    assert first.stdin != second.stdin
    assert "Invoke-Expression" not in BOOTSTRAP
    assert max(map(len, first.stdin.splitlines())) <= 80


async def test_powershell_errors_wrapped_in_xml_become_text(
    host: Host, server: WsmanServer
) -> None:
    wrapped = (
        b'#< CLIXML\r\n<Objs Version="1.1.0.1">'
        b'<S S="Error">no such service &lt;x&gt;_x000D__x000A_</S>'
        b'<S S="Error">at line 1</S></Objs>'
    )
    server.scripts["x"] = lambda _: (b"", wrapped, 1)
    outcome = await host.run(PowerShellScript("x"))
    assert outcome.exit_code == 1
    assert host.sink.stderr == b"no such service <x>\r\nat line 1"


def test_error_text_that_is_plain_is_passed_on_at_once() -> None:
    text = ErrorText()
    assert text.feed(b"warning") == b""
    assert text.feed(b": disk") == b"warning: disk"
    assert text.feed(b" full") == b" full"
    short = ErrorText()
    assert short.feed(b"#<") + short.finish() == b"#<"


async def test_an_unsigned_exit_code_becomes_the_known_number(
    host: Host, server: WsmanServer
) -> None:
    server.scripts["x"] = lambda _: (b"", b"", 0xC0000005)
    assert (await host.run(PowerShellScript("x"))).exit_code == -1073741819


async def test_output_streams_while_the_command_runs(host: Host) -> None:
    running = asyncio.create_task(host.cmd("echo first; sleep 3008"))
    await asyncio.wait_for(host.sink.arrived.wait(), 20)
    assert host.sink.stdout == b"first\n"
    assert not running.done()
    host.cancel.set()
    assert (await running).state == "cancelled"


async def test_much_output_is_exact(host: Host) -> None:
    outcome = await host.cmd("head -c 3000000 /dev/zero | tr '\\0' x")
    assert outcome.exit_code == 0
    assert host.sink.stdout == b"x" * 3_000_000


async def test_standard_input_is_empty(host: Host) -> None:
    assert (await host.argv("cat", seconds=10)).exit_code == 0


async def test_the_environment_names_the_attempt_and_holds_no_loader_variables(host: Host) -> None:
    await host.argv("env", attempt_id="att_env", env={"TRACEPARENT": "00", "LD_PRELOAD": "/x"})
    variables = dict(line.split("=", 1) for line in host.sink.stdout.decode().splitlines())
    assert (variables["OPSCONDUCTOR_ATTEMPT"], variables["TRACEPARENT"]) == ("att_env", "00")
    assert "LD_PRELOAD" not in variables


@pytest.mark.parametrize("why", ["cancelled", "timed_out"])
async def test_a_stop_terminates_the_command_and_deletes_its_shell(
    host: Host, server: WsmanServer, why: str
) -> None:
    name = new_attempt()
    seconds = 1.0 if why == "timed_out" else 30.0
    running = asyncio.create_task(host.cmd("echo on; sleep 3012", attempt_id=name, seconds=seconds))
    await until(host.sink.arrived.is_set)
    if why == "cancelled":
        host.cancel.set()
    outcome = await running
    assert (outcome.state, outcome.effects, outcome.survivors) == (why, "possible", ())
    assert marked_processes(name) == []
    assert "Signal" in server.actions
    assert server.shells == {}


async def test_a_cancel_before_the_start_starts_nothing(host: Host, server: WsmanServer) -> None:
    host.cancel.set()
    outcome = await host.cmd("true")
    assert (outcome.state, outcome.effects) == ("cancelled", "none")
    assert server.actions == []


async def test_a_stop_that_is_not_confirmed_says_so(host: Host, server: WsmanServer) -> None:
    running = asyncio.create_task(host.cmd("echo on; sleep 3013"))
    await until(host.sink.arrived.is_set)
    server.fault = Fault(1, "no")
    host.cancel.set()
    outcome = await running
    assert outcome.state in ("cancel_unverified", "unknown")
    assert outcome.effects == "possible"


@pytest.mark.parametrize(
    ("read_only", "expected"),
    [
        (False, ("unknown", "possible", "CONNECTION_LOST", "unknown")),
        (True, ("unreachable", "none", "CONNECTION_LOST", "unreachable")),
    ],
)
@pytest.mark.parametrize("action", ["Command", "Receive"])
async def test_an_answer_that_is_lost_is_unknown_for_changes_and_the_next_call_logs_in_again(
    host: Host, server: WsmanServer, action: str, read_only: bool, expected: tuple[str, ...]
) -> None:
    server.drop = action
    assert told(await host.cmd("true", read_only=read_only)) == expected
    server.drop = ""
    assert (await host.cmd("true")).exit_code == 0
    assert server.logins > 1
    assert server.shells == {}


async def test_a_server_that_is_gone_is_unreachable_and_comes_back(
    server: WsmanServer, tmp_path: Path
) -> None:
    host = Host(server, tmp_path)
    host.target["port"] = free_port()  # type: ignore[assignment]
    outcome = await host.cmd("true")
    assert told(outcome) == ("unreachable", "none", "UNREACHABLE", "unreachable")
    assert outcome.error is not None
    assert str(host.target["port"]) in outcome.error.message
    host.target["port"] = server.port  # type: ignore[assignment]
    assert (await host.cmd("true")).exit_code == 0
    await host.executor.close()


@pytest.mark.parametrize("way", ["basic", "ntlm"])
async def test_a_refused_login_is_told(server: WsmanServer, tmp_path: Path, way: str) -> None:
    host = Host(server, tmp_path, way)
    host.credential = replace(host.credential, password="wrong-password")
    outcome = await host.cmd("true")
    assert told(outcome) == ("failed", "none", "AUTH_FAILED", "non_retryable")
    assert "wrong-password" not in repr(outcome)
    await host.executor.close()


async def test_an_untrusted_server_never_sees_the_password(
    server: WsmanServer, tmp_path: Path
) -> None:
    host = Host(server, tmp_path, "basic")
    (tmp_path / "other").mkdir()
    other = self_signed(tmp_path / "other")
    settings = (("transport", "basic"), ("ca_file", str(other)))
    host.credential = replace(host.credential, settings=settings)
    assert told(await host.cmd("true"))[:3] == ("failed", "none", "TLS_UNTRUSTED")
    assert server.logins == 0
    await host.executor.close()


async def test_faults_of_the_server_are_told_apart(host: Host, server: WsmanServer) -> None:
    server.fault = Fault(TOO_MANY, "The maximum number of concurrent shells was exceeded.")
    assert told(await host.cmd("true")) == ("failed", "none", "TOO_MANY_SHELLS", "throttled")
    server.fault = Fault(5, "Access is denied.")
    assert told(await host.cmd("true"))[2] == "ACCESS_DENIED"
    server.fault = None
    outcome = await host.argv("no-such-program.exe")
    assert told(outcome)[:3] == ("failed", "none", "WINRM_FAULT")
    assert outcome.error is not None
    assert "cannot find the file" in outcome.error.message


@pytest.mark.parametrize(
    ("rendered", "code"),
    [
        (ArgvCommand(()), "COMMAND_EMPTY"),
        (ArgvCommand(("x", "a\0b")), "NUL_BYTE"),
        (ArgvCommand(("x", "a\nb")), "ARGUMENT_UNSAFE"),
        (ArgvCommand(("x", "\x1b[31m")), "ARGUMENT_UNSAFE"),
        (ArgvCommand(("deploy.bat", "a")), "ARGUMENT_UNSAFE"),
        (ArgvCommand(("C:\\x\\Deploy.CMD. ", "a")), "ARGUMENT_UNSAFE"),
        (ArgvCommand(("x", "y" * 40_000)), "ARGUMENT_TOO_LONG"),
        (ScriptCommand("cmd", "dir %1", ("a & calc",)), "ARGUMENT_UNSAFE"),
        (ScriptCommand("cmd", "dir\nformat c:"), "SCRIPT_INVALID"),
        (ScriptCommand("bash", "true"), "METHOD_MISMATCH"),
        (HttpRequest("GET", "http://127.0.0.1/"), "METHOD_MISMATCH"),
    ],
)
async def test_what_windows_cannot_be_given_safely_is_refused(
    host: Host, server: WsmanServer, rendered: Rendered, code: str
) -> None:
    outcome = await host.run(rendered)
    assert told(outcome)[:3] == ("failed", "none", code)
    assert server.actions == []


async def test_a_missing_credential_address_or_library_is_told(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.credential = Credential("ssh", "ops")
    assert told(await host.cmd("true"))[2] == "CREDENTIAL_INVALID"
    host.target = {"name": "win-01"}
    assert told(await host.cmd("true"))[2] == "TARGET_INVALID"
    monkeypatch.setattr("opsconductor.agent.executors.winrm.executor.find_spec", lambda _: None)
    assert told(await host.cmd("true"))[2] == "LIBRARY_MISSING"


async def test_a_kerberos_login_without_its_library_is_told(host: Host) -> None:
    host.credential = replace(host.credential, settings=(("transport", "kerberos"),))
    outcome = await host.cmd("true")
    assert told(outcome)[:2] in (("failed", "none"), ("unreachable", "none"))
    assert outcome.error is not None
    assert "kerberos" in outcome.error.message.lower()


async def test_many_commands_run_at_once(host: Host) -> None:
    async def one(number: int) -> str:
        sink = MemorySink()
        script = ScriptCommand("cmd", f"sleep 0.2; echo {number}")
        call = Call(new_attempt(), script, host.target, timedelta(seconds=30))
        await host.executor.run(call, sink, asyncio.Event())
        return sink.stdout.decode().strip()

    numbers = await asyncio.gather(*(one(number) for number in range(12)))
    assert numbers == [str(number) for number in range(12)]
