"""The argument list of a rendered command, as every command carrier runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.tool_registry.rendering.rendered import ArgvCommand, ScriptCommand, script_argv

if TYPE_CHECKING:
    from opsconductor.tool_registry.rendering.rendered import Rendered


def command_arguments(rendered: Rendered) -> list[bytes]:
    """Returns program and arguments; raises Refused where no process could take them."""
    match rendered:
        case ArgvCommand(argv):
            arguments = argv
        case ScriptCommand():
            arguments = script_argv(rendered)
        case _:
            kind = type(rendered).__name__
            raise _invalid("METHOD_MISMATCH", f"a command executor cannot run a {kind}")
    if not arguments or not arguments[0]:
        raise _invalid("COMMAND_EMPTY", "the command is empty; give a program as the first item")
    return [_encode(number, value) for number, value in enumerate(arguments)]


def _encode(number: int, value: str) -> bytes:
    if "\0" in value:
        raise _invalid("NUL_BYTE", f"argument {number} holds a NUL byte, which no process can take")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        message = f"argument {number} is not valid Unicode: {error.reason}"
        raise _invalid("NOT_UTF8", message) from error


def _invalid(code: str, message: str) -> Refused:
    return Refused(Outcome.refused(code, message))
