from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsconductor.tool_registry.inputs import check_inputs
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.rendering.render import (
    ArgvCommand,
    HttpRequest,
    InternalCall,
    RenderError,
    ScriptCommand,
    command_line,
    render,
    script_argv,
)

REGISTRY = Registry.load()
nasty = st.text(
    alphabet=st.one_of(
        st.sampled_from("-'\"`$!*?[]{}()<>|&;#~%^=,@+:\\ \n\t"),
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    ),
    max_size=40,
)


def rendered(
    tool: str, inputs: dict[str, Any], target: dict[str, Any] | None = None, **more: Any
) -> Any:
    found = REGISTRY.get(tool)
    typed, faults = check_inputs(found, inputs)
    assert faults == []
    return render(found, typed, target, **more)


@given(st.lists(nasty, max_size=8))
def test_arguments_arrive_as_they_are(words: list[str]) -> None:
    command = rendered("run_command", {"argv": ["printf", *words]})
    assert command == ArgvCommand(("printf", *words))
    assert shlex.split(command_line(command)) == ["printf", *words]


@settings(max_examples=40, deadline=None)
@given(st.lists(nasty, min_size=1, max_size=5))
def test_the_shown_command_means_the_same_to_a_shell(words: list[str]) -> None:
    line = command_line(rendered("run_command", {"argv": ["printf", "%s\\0", *words]}))
    result = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True)
    assert result.stdout == b"".join(word.encode() + b"\0" for word in words)


@settings(max_examples=40, deadline=None)
@given(st.lists(nasty, min_size=1, max_size=5))
def test_script_arguments_are_positional_and_never_syntax(words: list[str]) -> None:
    inputs = {"script": 'printf "%s\\0" "$@"', "args": words}
    command = rendered("run_script", inputs)
    result = subprocess.run(script_argv(command), capture_output=True, check=True)
    assert result.stdout == b"".join(word.encode() + b"\0" for word in words)


def test_python_scripts_get_their_arguments_in_sys_argv() -> None:
    inputs = {"script": "import sys; print(sys.argv[1:])", "interpreter": "python3", "args": ["a"]}
    command = rendered("run_script", inputs)
    assert script_argv(command) == ("python3", "-c", inputs["script"], "a")


@given(nasty)
def test_a_placeholder_in_a_value_is_not_filled_again(text: str) -> None:
    inputs = {"path": "/tmp/x", "content": text + "{path}{mode}${{ inputs.path }}"}
    command = rendered("write_file", inputs)
    assert isinstance(command, ScriptCommand)
    assert command.args[1] == text + "{path}{mode}${{ inputs.path }}"


@given(st.sampled_from([tool.name for tool in REGISTRY.tools]), st.data())
def test_no_value_becomes_an_option(name: str, data: st.DataObject) -> None:
    tool = REGISTRY.get(name)
    if tool.risk_from is not None or "argv" not in tool.command:
        return
    texts = {
        key: data.draw(nasty.map(lambda text: "-" + text))
        for key, parameter in tool.properties.items()
        if parameter["type"] == "string"
    }
    typed, faults = check_inputs(tool, texts)
    if faults:
        return
    argv = list(render(tool, typed, {"name": "x", "address": "10.0.0.1"}).argv)  # type: ignore[union-attr]
    for text in texts.values():
        if text in argv:
            assert "--" in argv[: argv.index(text)]


def test_an_unsafe_value_is_refused_even_unchecked() -> None:
    tool = REGISTRY.get("restart_service")
    target = {"name": "x", "service_manager": "sysv"}
    with pytest.raises(RenderError) as error:
        render(tool, {"service": "--help"}, target)
    assert error.value.faults[0].code == "LEADING_DASH"


def test_a_nul_character_is_refused_even_unchecked() -> None:
    with pytest.raises(RenderError) as error:
        render(REGISTRY.get("run_command"), {"argv": ["a\0b"]}, None)
    assert error.value.faults[0].code == "NUL_BYTE"


def test_a_missing_target_is_named() -> None:
    with pytest.raises(RenderError, match="no target"):
        rendered("ping", {})
    target = {"name": "x", "service_manager": "command", "service_command": ""}
    with pytest.raises(RenderError, match="service_command"):
        rendered("restart_service", {"service": "web"}, target)


def test_an_unknown_service_manager_lists_the_known_ones() -> None:
    with pytest.raises(RenderError, match="command, systemd, sysv"):
        rendered("restart_service", {"service": "web"}, {"name": "x", "service_manager": "upstart"})


def test_a_tool_without_capture_has_no_capture_command() -> None:
    with pytest.raises(RenderError, match="no capture"):
        rendered("ping", {"host": "a"}, section="capture")


def test_an_http_check_is_a_request_with_what_to_look_for() -> None:
    inputs = {"url": "http://h/x?a=1", "contains": "it's up", "follow_redirects": True}
    request = rendered("http_check", inputs)
    assert isinstance(request, HttpRequest)
    assert (request.method, request.url, request.contains) == ("GET", "http://h/x?a=1", "it's up")
    assert request.follow_redirects
    assert request.verify_tls
    assert shlex.split(command_line(request))[-2:] == ["--", "http://h/x?a=1"]


def test_an_asset_query_keeps_types_and_leaves_out_what_is_not_given() -> None:
    call = rendered("asset_query", {"tags": ["web"], "limit": 5})
    assert call == InternalCall("asset_query", {"tags": ["web"], "limit": 5})
    assert json.loads(command_line(call).partition(" ")[2]) == call.args
