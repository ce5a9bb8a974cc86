"""What is sent to Windows to run: a command line of constants, and what goes to its input.

PowerShell gets its script and parameters as base64 JSON on standard input; the command line is the
same for every call. Nothing a caller gives is ever read by a parser of PowerShell or cmd.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.tool_registry.rendering.rendered import (
    ArgvCommand,
    PowerShellScript,
    ScriptCommand,
)

if TYPE_CHECKING:
    from opsconductor.tool_registry.rendering.rendered import Rendered

BOOTSTRAP = """\
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
try { [Console]::OutputEncoding = New-Object System.Text.UTF8Encoding $false } catch { }
$bytes = [Convert]::FromBase64String([string]::Join('', @($input)))
$call = ConvertFrom-Json ([Text.Encoding]::UTF8.GetString($bytes))
$named = @{}
foreach ($parameter in $call.parameters.PSObject.Properties) {
    $named[$parameter.Name] = $parameter.Value
}
$global:LASTEXITCODE = 0
try {
    & ([ScriptBlock]::Create($call.script)) @named 3>&1 | ForEach-Object {
        if ($_ -is [Management.Automation.WarningRecord]) {
            [Console]::Error.WriteLine('WARNING: ' + $_.Message)
        } else { $_ }
    }
}
catch {
    [Console]::Error.WriteLine($_.Exception.Message)
    [Console]::Error.WriteLine($_.InvocationInfo.PositionMessage)
    exit 1
}
exit $global:LASTEXITCODE
"""
"""Reads the call from standard input and runs it with its parameters bound by name.

Warnings go to standard error: powershell.exe writes them to standard output, into the JSON.
"""

_POWERSHELL = "powershell.exe"
_OPTIONS = ("-NoLogo", "-NoProfile", "-NonInteractive", "-OutputFormat", "Text")
# What starts these is cmd.exe, whose quoting nobody can get right.
_BATCH = re.compile(r"\.(?:bat|cmd)[. ]*\Z", re.IGNORECASE)
# XML cannot carry the others, and Windows has no use for them in a command line.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffe\uffff\ud800-\udfff]")
_LINE = 80
_MOST_COMMAND_LINE = 32_000


@dataclass(frozen=True, slots=True)
class RemoteLine:
    """One command line and its input."""

    program: str
    arguments: tuple[str, ...]
    """Quoted already; they are joined by spaces."""
    stdin: bytes = b""


def command_line_of(rendered: Rendered) -> RemoteLine:
    """Returns what is sent for a rendered command; raises Refused for what cannot be."""
    match rendered:
        case PowerShellScript(body, parameters):
            call = {"script": body, "parameters": dict(parameters)}
            return RemoteLine(_POWERSHELL, _bootstrap(), _wrapped(json.dumps(call).encode("ascii")))
        case ScriptCommand("cmd", body, args):
            return _cmd(body, args)
        case ScriptCommand(interpreter):
            message = f"Windows has no {interpreter}; a script for it is powershell or cmd"
            raise _refused("METHOD_MISMATCH", message)
        case ArgvCommand(argv):
            return _program(argv)
    message = f"the winrm executor cannot run a {type(rendered).__name__}"
    raise _refused("METHOD_MISMATCH", message)


def _bootstrap() -> tuple[str, ...]:
    encoded = base64.b64encode(BOOTSTRAP.encode("utf-16-le")).decode("ascii")
    return (*_OPTIONS, "-EncodedCommand", encoded)


def _wrapped(data: bytes) -> bytes:
    """Returns base64 in short lines: what reads the input may not take long ones."""
    text = base64.b64encode(data)
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return b"\r\n".join([*lines, b""])


def _cmd(body: str, args: tuple[str, ...]) -> RemoteLine:
    if args:
        raise _refused("ARGUMENT_UNSAFE", "a cmd script takes no arguments: it cannot quote them")
    if "\n" in body.strip() or _CONTROL.search(body):
        raise _refused("SCRIPT_INVALID", "a cmd script is one line; use powershell for more")
    return RemoteLine("cmd.exe", ("/d", "/s", "/c", f'"{body.strip()}"'))


def _program(argv: tuple[str, ...]) -> RemoteLine:
    if not argv or not argv[0]:
        raise _refused("COMMAND_EMPTY", "the command is empty; give a program as the first item")
    for number, word in enumerate(argv):
        if "\0" in word:
            raise _refused("NUL_BYTE", f"argument {number} holds a NUL byte")
        if _CONTROL.search(word) or "\n" in word:
            message = (
                f"argument {number} holds a control character, which no command line can carry"
            )
            raise _refused("ARGUMENT_UNSAFE", message)
    if _BATCH.search(argv[0]) or '"' in argv[0]:
        message = f"{argv[0]} would be read by cmd, which has no safe quoting; use powershell"
        raise _refused("ARGUMENT_UNSAFE", message)
    # Quoted as programs of the C runtime read it; no shell is in between.
    arguments = tuple(subprocess.list2cmdline([word]) for word in argv[1:])
    if len(argv[0]) + sum(map(len, arguments)) + len(arguments) > _MOST_COMMAND_LINE:
        raise _refused("ARGUMENT_TOO_LONG", f"Windows takes {_MOST_COMMAND_LINE} characters a line")
    return RemoteLine(subprocess.list2cmdline([argv[0]]), arguments)


def _refused(code: str, message: str) -> Refused:
    return Refused(Outcome.refused(code, message))
