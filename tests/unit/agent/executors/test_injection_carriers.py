"""What carries a command to where it runs delivers every argument as it was given."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from datetime import timedelta
from email import message_from_bytes
from email.policy import SMTP
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.hostile import HOSTILE, inputs_with, nasty
from helpers.windows_command_line import windows_arguments
from opsconductor.agent.executors.base import Call, Refused
from opsconductor.agent.executors.communication.mail import _mail
from opsconductor.agent.executors.communication.webhook import _payload
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.database.binds import numbered
from opsconductor.agent.executors.ssh.carrier import (
    REMOTE_COMMAND,
    Header,
    command_script,
    remote_command,
)
from opsconductor.agent.executors.winrm.line import BOOTSTRAP, command_line_of
from opsconductor.tool_registry.inputs import check_inputs
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.rendering.render import (
    ArgvCommand,
    Rendered,
    RenderError,
    ScriptCommand,
    render,
    script_argv,
)
from opsconductor.tool_registry.rendering.rendered import Message, PowerShellScript

TOOLS = Registry.load().tools
SHELLS = [
    *(["/bin/sh"], ["dash"], ["bash"], ["busybox", "ash"], ["zsh"], ["ksh93"], ["mksh"]),
    *(["fish"], ["tcsh"]),
]
INSTALLED = [shell for shell in SHELLS if shutil.which(shell[0])]
CARRIED = tuple(value for value in HOSTILE if "\0" not in value and "\ud800" not in value)
PRINT = shutil.which("printf") or "/usr/bin/printf"
TARGET = {
    "name": "web-01",
    "address": "10.0.0.1",
    "port": 443,
    "service_manager": "systemd",
    "service_command": "/usr/local/bin/ctl",
}
carried = nasty.filter(lambda value: "\0" not in value and value.isascii() | _encodes(value))


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def delivered(shell: list[str], words: list[str], **variables: str) -> list[str]:
    """Returns the arguments a program gets behind a login shell of this kind."""
    argv = [word.encode() for word in (PRINT, "%s\\0", *words)]
    script = command_script("nonce-1", argv, variables)
    command = [*shell, "-c", REMOTE_COMMAND]
    done = subprocess.run(command, input=script, capture_output=True, check=True)
    header = Header("nonce-1", PRINT)
    output = header.feed(done.stdout)
    assert header.found
    assert done.stderr == b""
    return output.decode().split("\0")[:-1]


@pytest.mark.parametrize("shell", INSTALLED, ids=" ".join)
def test_every_login_shell_delivers_hostile_arguments(shell: list[str]) -> None:
    assert delivered(shell, list(CARRIED)) == list(CARRIED)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(INSTALLED), st.lists(carried, min_size=1, max_size=8))
def test_every_login_shell_delivers_any_arguments(shell: list[str], words: list[str]) -> None:
    assert delivered(shell, words) == words


@pytest.mark.parametrize("shell", INSTALLED, ids=" ".join)
def test_what_every_tool_renders_arrives_behind_every_login_shell(shell: list[str]) -> None:
    words = [word for rendered in accepted() for word in argv_of(rendered)]
    words = sorted({word for word in words if len(word) < 1000})
    assert len(words) > 700
    for start in range(0, len(words), 1000):
        assert delivered(shell, words[start : start + 1000]) == words[start : start + 1000]


@pytest.mark.parametrize("shell", INSTALLED, ids=" ".join)
def test_every_login_shell_passes_hostile_variables(shell: list[str]) -> None:
    environment = shutil.which("env") or "/usr/bin/env"
    wanted = {f"OPSC_{number}": value for number, value in enumerate(CARRIED)}
    script = command_script("nonce-1", [environment.encode(), b"-0"], wanted)
    command = [*shell, "-c", REMOTE_COMMAND]
    done = subprocess.run(command, input=script, capture_output=True, check=True)
    output = Header("nonce-1", environment).feed(done.stdout).decode()
    found = dict(line.split("=", 1) for line in output.split("\0") if line)
    assert {name: found.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("user", ["", "root", "deploy"])
@pytest.mark.parametrize("with_password", [False, True])
def test_the_remote_command_holds_no_value_but_the_user(user: str, with_password: bool) -> None:
    command = remote_command(user, with_password=with_password)
    assert (
        command == remote_command("@", with_password=with_password).replace("@", user) or not user
    )


@pytest.mark.parametrize("interpreter", ["sh", "bash"])
def test_scripts_get_hostile_arguments_by_position(interpreter: str) -> None:
    script = ScriptCommand(interpreter, 'printf "%s\\0" "$0" "$@"', CARRIED)
    done = subprocess.run(script_argv(script), capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[1:-1] == list(CARRIED)


def test_python_scripts_get_hostile_arguments_by_position() -> None:
    body = "import sys; sys.stdout.buffer.write(b'\\0'.join(map(str.encode, sys.argv[1:])))"
    script = ScriptCommand("python3", body, CARRIED)
    done = subprocess.run(script_argv(script), capture_output=True, check=True)
    assert done.stdout.decode().split("\0") == list(CARRIED)


def test_the_scripts_of_tools_get_their_arguments_by_position() -> None:
    found = [one for one in accepted() if isinstance(one, ScriptCommand)]
    assert len(found) > 200
    by_interpreter: dict[str, list[str]] = {}
    for script in found:
        by_interpreter.setdefault(script.interpreter, []).extend(script.args)
    for interpreter in set(by_interpreter) & {"sh", "bash"}:
        words = tuple(dict.fromkeys(by_interpreter[interpreter]))
        printer = ScriptCommand(interpreter, 'printf "%s\\0" "$@"', words)
        done = subprocess.run(script_argv(printer), capture_output=True, check=True)
        assert tuple(done.stdout.decode().split("\0")[:-1]) == words


@pytest.mark.parametrize(
    "tool", [one for one in TOOLS if "script" in one.command], ids=lambda tool: tool.name
)
def test_the_scripts_of_tools_are_syntax_for_their_shells(tool: Any) -> None:
    for example in tool.examples:
        script = render(tool, check_inputs(tool, example.inputs)[0], TARGET)
        assert isinstance(script, ScriptCommand)
        shell = {"sh": "dash", "bash": "bash"}.get(script.interpreter)
        if shell and tool.risk_from is None:
            subprocess.run([shell, "-n", "-c", script.body], check=True, capture_output=True)


def test_powershell_gets_values_as_data_beside_a_constant_script() -> None:
    found = [one for one in accepted() if isinstance(one, PowerShellScript)]
    bodies = {tool.command["powershell"]["body"] for tool in TOOLS if "powershell" in tool.command}
    assert len(found) > 700
    lines = set()
    for call in found:
        line = command_line_of(call)
        lines.add((line.program, line.arguments))
        sent = json.loads(base64.b64decode(b"".join(line.stdin.split()), validate=True))
        assert sent == {"script": call.body, "parameters": dict(call.parameters)}
        assert call.body in bodies
        assert max(map(len, line.stdin.split(b"\r\n"))) <= 80
    assert len(lines) == 1
    program, arguments = lines.pop()
    assert program == "powershell.exe"
    assert base64.b64decode(arguments[-1]).decode("utf-16-le") == BOOTSTRAP


@given(st.dictionaries(st.sampled_from("abc"), carried))
def test_powershell_parameters_survive_their_way(parameters: dict[str, str]) -> None:
    line = command_line_of(PowerShellScript("param($a, $b, $c)", parameters))
    assert line.stdin.isascii()
    assert json.loads(base64.b64decode(b"".join(line.stdin.split())))["parameters"] == parameters


@given(st.lists(carried, max_size=5))
def test_windows_programs_get_their_arguments_or_the_call_is_refused(words: list[str]) -> None:
    try:
        line = command_line_of(ArgvCommand(("tool.exe", *words)))
    except Refused as refused:
        require_code(refused, "ARGUMENT_UNSAFE", "ARGUMENT_TOO_LONG")
        return
    assert windows_arguments(" ".join([line.program, *line.arguments])) == ["tool.exe", *words]


@pytest.mark.parametrize("program", ["a.bat", "A.CMD", "a.cmd. ", 'a" & calc', "x\ny"])
def test_nothing_is_started_that_cmd_would_read(program: str) -> None:
    with pytest.raises(Refused):
        command_line_of(ArgvCommand((program, "$(id)")))


@given(carried, carried)
def test_a_question_mark_in_quotes_is_no_place_for_a_value(one: str, other: str) -> None:
    text = "SELECT '" + one.replace("'", "''") + "', ? , \"" + other.replace('"', '""') + '", ?'
    expected = text.replace("', ? , ", "', $1 , ", 1)
    assert numbered(text).startswith("SELECT '" + one.replace("'", "''") + "', $1 , ")
    assert numbered(text) == expected[:-1] + "$2"


@pytest.mark.parametrize("value", HOSTILE)
def test_a_mail_has_the_headers_it_is_meant_to_have(value: str) -> None:
    sender = Credential("smtp", settings=(("sender", "ops@example.com"), ("host", "h")))
    plain = Message("smtp", to=("a@example.com",), subject="harmless", text="harmless")
    expected = _headers(_mail(_call(plain), plain, sender).as_bytes())
    for message in (
        Message("smtp", to=("a@example.com",), subject=value, text=value),
        Message("smtp", to=(value,), subject="x", text="x"),
        Message("smtp", to=("a@example.com",), cc=(value,), subject="x", text="x"),
    ):
        try:
            mail = _mail(_call(message), message, sender).as_bytes()
        except Refused as refused:
            require_code(refused, "HEADER_INVALID", "RECIPIENT_INVALID")
            continue
        assert [name for name in _headers(mail) if name != "Cc"] == expected
        parsed = message_from_bytes(mail, policy=SMTP)
        assert str(parsed["Subject"]).split() == message.subject.replace("\ud800", "?").split()


@pytest.mark.parametrize("channel", ["slack", "teams", "webhook"])
@pytest.mark.parametrize("value", CARRIED)
def test_a_message_is_one_json_text_with_its_words_as_data(channel: Any, value: str) -> None:
    sent = json.loads(_payload(Message(channel, subject=value, text=value)))
    plain = json.loads(_payload(Message(channel, subject="x", text="x")))
    assert _shape(sent) == _shape(plain) or not value
    if channel == "slack":
        assert "<" not in sent["text"]


def require_code(refused: Refused, *codes: str) -> None:
    assert refused.outcome.error is not None
    assert refused.outcome.error.code in codes


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    return [_shape(item) for item in value] if isinstance(value, list) else type(value).__name__


def _headers(mail: bytes) -> list[str]:
    return [name for name, _ in message_from_bytes(mail, policy=SMTP).items()]


def _call(message: Message) -> Call:
    return Call("attempt-1", message, None, timedelta(seconds=5))


def accepted() -> list[Rendered]:
    """Returns what every tool renders to for every hostile text it takes."""
    if not _ACCEPTED:
        for tool in TOOLS:
            for name, schema in tool.properties.items():
                if schema["type"] in ("string", "array") and "enum" not in schema:
                    _ACCEPTED.extend(_renders(tool, name))
    return _ACCEPTED


_ACCEPTED: list[Rendered] = []


def _renders(tool: Any, name: str) -> list[Rendered]:
    targets = [one.target for one in tool.examples if one.target]
    target = {**TARGET, **(targets[0] if targets else {})}
    found = []
    for value in HOSTILE:
        typed, faults = check_inputs(tool, inputs_with(tool, name, value))
        if not faults:
            try:
                found.append(render(tool, typed, target))
            except RenderError:
                continue
    return found


def argv_of(rendered: Rendered) -> tuple[str, ...]:
    if isinstance(rendered, ArgvCommand):
        return rendered.argv
    return script_argv(rendered) if isinstance(rendered, ScriptCommand) else ()
