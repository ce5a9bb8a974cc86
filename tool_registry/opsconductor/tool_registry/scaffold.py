"""A first tool file that passes the checks: its author changes words, not structure."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import InvalidArgument
from opsconductor.tool_registry.rendering.template import PLACEHOLDER

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = re.compile(r"[a-z][a-z0-9_]{1,62}")
_PLATFORMS = {
    "windows": "windows",
    "cloud": "cloud",
    "container": "container",
    "database": "database",
    "network": "network",
}
DEFAULT_COMMAND = ("uname", "-a")


def scaffold(name: str, category: str, command: Sequence[str] = DEFAULT_COMMAND) -> str:
    """Returns the text of a new tool file whose placeholders have become parameters.

    Raises:
        InvalidArgument: The name cannot be a tool's, or the command is empty.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name!r} cannot name a tool: use 2 to 63 small letters, digits and _, a letter first"
        )
    if not command:
        raise InvalidArgument("the command is empty: give at least the program to run")
    names = _placeholders(command)
    title = name.replace("_", " ").capitalize()
    lines = [
        "schema: opsconductor.tool/1",
        f"name: {name}",
        'version: "1.0"',
        f"title: {title}",
        f"description: {title}; say here in one or two sentences what it does and when to use it.",
        f"use_cases: [{name.replace('_', ' ')}]",
        f"platform: {_PLATFORMS.get(category, 'linux')}",
        f"category: {category}",
        "execution:",
        "  location: automation-service",
        "  # command: on the step's target, however that is reached; local-command: on the agent",
        "  method: command",
        "  requires_target: false",
        "  target_type: host",
        "parameters:",
        "  type: object",
        "  properties:" + ("" if names else " {}"),
        *(line for item in names for line in _parameter(item)),
        f"  required: [{', '.join(names)}]",
        "  additionalProperties: false",
        "# Not read_only? Say destructive and idempotent, and add undo: (and capture:).",
        "annotations: {read_only: true, idempotent: true, open_world: false}",
        "command:",
        "  # {name} is one argument, whatever it holds; before -- it may not begin with a dash.",
        f"  argv: [{', '.join(_quoted(word) for word in _protected(command))}]",
        "timeout: 30s",
        "estimate: {base: 1s}",
        "output: {parser: text}",
        f'summary: "Ran {name} on ${{{{ target.name }}}}"',
        f"requires: {{binaries: [{_quoted(command[0])}]}}",
        "examples:",
        *_example("first", "value", command, names),
        *_example("second", "another", command, names),
    ]
    return "\n".join(lines) + "\n"


def _placeholders(command: Sequence[str]) -> list[str]:
    found = [match[1] for word in command for match in PLACEHOLDER.finditer(word) if match[1]]
    for name in found:
        if "." in name:
            raise InvalidArgument(f"{{{name}}} names no parameter; write the target's by hand")
    return list(dict.fromkeys(found))


def _parameter(name: str) -> list[str]:
    return [
        f"    {name}:",
        "      type: string",
        "      format: word",
        f"      description: say what {name} is",
    ]


def _protected(command: Sequence[str]) -> list[str]:
    """Puts ``--`` before the first word that is all placeholder, where the command has none."""
    words = list(command)
    if "--" in words:
        return words
    for index, word in enumerate(words):
        match = PLACEHOLDER.match(word)
        if match and match[1] and index:
            return [*words[:index], "--", *words[index:]]
    return words


def _example(name: str, value: str, command: Sequence[str], names: Sequence[str]) -> list[str]:
    def fill(word: str) -> str:
        return PLACEHOLDER.sub(lambda match: value if match[1] else match[0][0], word)

    inputs = ", ".join(f"{item}: {value}" for item in names)
    argv = ", ".join(_quoted(fill(word)) for word in _protected(command))
    return [f"  - name: {name}", f"    inputs: {{{inputs}}}", f"    renders: {{argv: [{argv}]}}"]


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def words_of(command: str) -> tuple[str, ...]:
    """Returns the words of a command as a shell would read them; InvalidArgument when it cannot."""
    try:
        return tuple(shlex.split(command))
    except ValueError as exc:
        raise InvalidArgument(f"the command cannot be read: {exc}") from exc
