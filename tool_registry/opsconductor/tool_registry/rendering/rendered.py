"""What a template renders to: never a line of shell text made from values."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opsconductor.tool_registry.rendering.structured_calls import AwsCall as AwsCall
from opsconductor.tool_registry.rendering.structured_calls import Message as Message
from opsconductor.tool_registry.rendering.structured_calls import (
    PowerShellScript as PowerShellScript,
)
from opsconductor.tool_registry.rendering.structured_calls import RedisCommand as RedisCommand
from opsconductor.tool_registry.rendering.structured_calls import SnmpRequest as SnmpRequest
from opsconductor.tool_registry.rendering.structured_calls import SqlStatement as SqlStatement
from opsconductor.tool_registry.rendering.structured_calls import (
    StructuredCall,
    structured_data,
    structured_line,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_INTERPRETERS = {
    "sh": ("/bin/sh", "-c"),
    "bash": ("bash", "-c"),
    "python3": ("python3", "-c"),
    "cmd": ("cmd.exe", "/d", "/s", "/c"),
}
SCRIPT_NAME = "opsconductor"
"""``$0`` of a script."""
SUDO = ("sudo", "-n", "--")
"""What stands before the arguments of an elevated command; it never asks for a password."""


@dataclass(frozen=True, slots=True)
class ArgvCommand:
    """A program and its arguments; no shell reads them."""

    argv: tuple[str, ...]
    elevated: bool = False
    """Whether it runs as root, through sudo where the login is not root already."""
    capabilities: tuple[str, ...] = ()
    """What of root's rights is enough, such as CAP_NET_RAW; empty where all of them are needed."""


@dataclass(frozen=True, slots=True)
class ScriptCommand:
    """A script whose body came from the tool (or is run_script's very input) and its arguments."""

    interpreter: str
    """sh, bash, python3, or cmd (which takes no arguments: it has no safe quoting)."""
    body: str
    args: tuple[str, ...] = ()
    elevated: bool = False
    """Whether it runs as root, through sudo where the login is not root already."""
    capabilities: tuple[str, ...] = ()
    """What of root's rights is enough, such as CAP_NET_RAW; empty where all of them are needed."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request; redirects are not followed unless asked."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    follow_redirects: bool = False
    verify_tls: bool = True
    max_body_bytes: int = 65536
    """At most this much of the answer is read."""
    contains: str = ""
    """Text the executor looks for in the answer, to set ``output.matched``."""
    credential: str = ""
    """Reference to a login on the agent; its entry there says how it is shown (digest, basic…)."""


@dataclass(frozen=True, slots=True)
class InternalCall:
    """A call of something the session provides, such as the inventory."""

    handler: str
    args: Mapping[str, Any] = field(default_factory=dict)


Rendered = ArgvCommand | ScriptCommand | HttpRequest | InternalCall | StructuredCall


def script_argv(script: ScriptCommand) -> tuple[str, ...]:
    """Returns the argument list that runs a script: ``/bin/sh -c BODY opsconductor ARG…``.

    Python has no ``$0`` of its own with ``-c``, so it gets the arguments only.
    """
    head = _INTERPRETERS[script.interpreter]
    name = () if script.interpreter in ("python3", "cmd") else (SCRIPT_NAME,)
    return (*head, script.body, *name, *script.args)


def is_elevated(rendered: Rendered) -> bool:
    """Returns whether a command runs as root."""
    return isinstance(rendered, ArgvCommand | ScriptCommand) and rendered.elevated


def capabilities_of(rendered: Rendered) -> tuple[str, ...]:
    """Returns what of root's rights is enough for an elevated command; empty means all."""
    return rendered.capabilities if isinstance(rendered, ArgvCommand | ScriptCommand) else ()


def command_line(rendered: Rendered) -> str:
    """Returns the command as a person would paste it into a POSIX shell."""
    sudo = SUDO if is_elevated(rendered) else ()
    match rendered:
        case ArgvCommand(argv):
            return shlex.join((*sudo, *argv))
        case ScriptCommand():
            return shlex.join((*sudo, *script_argv(rendered)))
        case HttpRequest():
            return _curl(rendered)
        case InternalCall(handler, args):
            text = json.dumps(args, ensure_ascii=False, sort_keys=True)
            return f"{handler} {text}" if args else handler
        case _:
            return structured_line(rendered)


def as_data(rendered: Rendered) -> dict[str, Any]:
    """Returns the rendered command as JSON data, the shape ``examples[].renders`` has."""
    match rendered:
        case ArgvCommand(argv):
            return {"argv": list(argv)}
        case ScriptCommand(interpreter, _, args):
            return {"interpreter": interpreter, "args": list(args)}
        case HttpRequest():
            data: dict[str, Any] = {"method": rendered.method, "url": rendered.url}
            if rendered.headers:
                data["headers"] = dict(rendered.headers)
            if rendered.body is not None:
                data["body"] = rendered.body.decode("utf-8", "replace")
            if rendered.credential:
                data["credential"] = rendered.credential
            return data
        case InternalCall(handler, args):
            return {"handler": handler, "args": dict(args)}
        case _:
            return structured_data(rendered)


def _curl(request: HttpRequest) -> str:
    words = ["curl", "--silent", "--show-error", "--globoff"]
    words += ["--head"] if request.method == "HEAD" else ["--request", request.method]
    if request.follow_redirects:
        words.append("--location")
    if not request.verify_tls:
        words.append("--insecure")
    for name, value in request.headers:
        words += ["--header", f"{name}: {value}"]
    if request.body is not None:
        words += ["--data-raw", request.body.decode("utf-8", "replace")]
    return shlex.join([*words, "--", request.url])
