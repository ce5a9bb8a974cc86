"""Converts tool files of older shapes: ``tool_name``, a ``parameters`` list, ``command_template``.

A template is text for a shell; here it becomes an argument list, or is refused with the reason:
what needs a shell (a pipe, a redirection, ``$( )``) has to be rewritten as a script by a person.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

import yaml

from opsconductor.rpc.errors import Fault
from opsconductor.tool_registry.lint.tool import lint_tool
from opsconductor.tool_registry.loader import read_tool
from opsconductor.tool_registry.suggestions import canonical_name

if TYPE_CHECKING:
    from collections.abc import Mapping

OLD_KEYS = frozenset({"tool_name", "execution_location", "command_template"})
"""Keys that only the older shapes have."""
_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][\w-]*)\s*\}\}|\{([A-Za-z_][\w-]*)\}")
_SHELL = re.compile(r"[|&;<>`*?~]|\$\(|\$\{|\$[A-Za-z_]|\n")
_TYPES = {
    "str": "string",
    "string": "string",
    "text": "string",
    "int": "integer",
    "integer": "integer",
    "float": "number",
    "number": "number",
    "bool": "boolean",
    "boolean": "boolean",
}
_FORMATS = (
    (re.compile(r"path|file|directory|folder"), "path"),
    (re.compile(r"host|server|address"), "host"),
    (re.compile(r"service|unit"), "unit"),
    (re.compile(r"user"), "username"),
    (re.compile(r"interface"), "interface"),
)
_EXAMPLES = {
    "path": "/srv/data",
    "host": "web-01",
    "unit": "nginx",
    "username": "alice",
    "interface": "eth0",
}
_LONGEST = 256


def is_older_shape(document: Mapping[str, Any]) -> bool:
    """Returns whether a tool file has keys of an older shape."""
    inner = document.get("tool")
    return bool(OLD_KEYS & set(document)) or isinstance(inner, dict)


def converted(document: Mapping[str, Any]) -> tuple[str, list[Fault]]:
    """Returns the file in today's shape, and every reason why it may not be used as it is.

    The text is given even with faults, as a start for the person who has to finish it; it is empty
    only when there is no command to convert.
    """
    old = {**document, **document["tool"]} if isinstance(document.get("tool"), dict) else document
    name = canonical_name(str(old.get("tool_name") or old.get("name") or ""))
    faults: list[Fault] = []
    template = str(old.get("command_template") or old.get("command") or "")
    argv, more = _argv(template)
    faults += more
    if not name:
        faults.append(Fault("MISSING_KEY", "tool_name", expected="the tool's name"))
    if not name or not argv:
        return "", faults
    parameters, required = _parameters(old.get("parameters") or (), faults)
    for found in _names(template):
        if found not in parameters:
            faults.append(
                Fault("UNKNOWN_PARAMETER", "command_template", found, "a name of parameters")
            )
    tool = _tool(name, old, argv, parameters, required)
    text = yaml.safe_dump(tool, sort_keys=False, allow_unicode=True, width=100)
    return text, faults + ([] if faults else _remaining(text))


def _tool(
    name: str,
    old: Mapping[str, Any],
    argv: list[str],
    parameters: dict[str, Any],
    required: list[str],
) -> dict[str, Any]:
    platform = str(old.get("platform") or "linux")
    description = str(old.get("description") or "").strip()
    reads = bool(old.get("read_only"))
    tool: dict[str, Any] = {
        "schema": "opsconductor.tool/1",
        "name": name,
        "version": "1.0",
        "title": name.replace("_", " ").capitalize(),
        "description": description if len(description) >= 10 else f"Runs {' '.join(argv)}"[:300],
        "platform": platform if platform in _PLATFORMS else "custom",
        "category": str(old.get("category") or platform).lower(),
        "execution": {
            "location": str(old.get("execution_location") or "automation-service"),
            "method": "command",
            "requires_target": False,
            "target_type": "host",
        },
        "parameters": {
            "type": "object",
            "properties": parameters,
            "required": required,
            "additionalProperties": False,
        },
        # An older file says nothing that could be trusted; a person may lower this.
        "annotations": {
            "read_only": reads,
            **({} if reads else {"destructive": True}),
            "idempotent": reads,
            "open_world": True,
        },
        "command": {"argv": argv},
        **({} if reads else {"undo": {"strategy": "none", "reason": "none was declared"}}),
        "timeout": f"{_seconds(old)}s",
        "output": {"parser": "text"},
        "requires": {"binaries": [argv[0]]},
    }
    tool["examples"] = [_example("every input", tool), _example("every input, once more", tool)]
    return tool


_PLATFORMS = frozenset(
    {"linux", "windows", "network", "cloud", "container", "database", "http", "custom", "any"}
)


def _seconds(old: Mapping[str, Any]) -> int:
    value = old.get("timeout_seconds", old.get("timeout", 60))
    return value if isinstance(value, int) and 1 <= value <= 86_400 else 60


def _argv(template: str) -> tuple[list[str], list[Fault]]:
    if not template.strip():
        return [], [Fault("MISSING_KEY", "command_template", expected="a command")]
    bare = _PLACEHOLDER.sub("x", template)
    if found := _SHELL.search(bare):
        fault = Fault(
            "NEEDS_A_SHELL",
            "command_template",
            found=f"{found[0]!r} in {template.strip()[:80]!r}",
            expected="one program and its arguments; rewrite it as command.script with args",
        )
        return [], [fault]
    marked = _PLACEHOLDER.sub(lambda found: f"\0{_name(found)}\0", template)
    try:
        words = shlex.split(marked)
    except ValueError as exc:
        return [], [Fault("NEEDS_A_SHELL", "command_template", str(exc), "closed quotes")]
    words = [_braced(word) for word in words]
    return _options_ended(words), []


def _braced(word: str) -> str:
    parts = word.split("\0")
    plain = [part.replace("{", "{{").replace("}", "}}") for part in parts]
    return "".join(f"{{{part}}}" if index % 2 else plain[index] for index, part in enumerate(parts))


def _options_ended(words: list[str]) -> list[str]:
    if "--" in words:
        return words
    for index, word in enumerate(words[1:], 1):
        if word.startswith("{") and not word.startswith("{{"):
            return [*words[:index], "--", *words[index:]]
    return words


def _name(found: re.Match[str]) -> str:
    return canonical_name(found[1] or found[2])


def _names(template: str) -> list[str]:
    return list(dict.fromkeys(_name(found) for found in _PLACEHOLDER.finditer(template)))


def _parameters(given: Any, faults: list[Fault]) -> tuple[dict[str, Any], list[str]]:
    """Reads a list of parameters, or an object of them by name."""
    listed = (
        [{"name": key, **(value or {})} for key, value in given.items()]
        if isinstance(given, dict)
        else list(given)
    )
    parameters: dict[str, Any] = {}
    required: list[str] = []
    for index, item in enumerate(listed):
        if not isinstance(item, dict) or not item.get("name"):
            faults.append(Fault("MISSING_KEY", f"parameters[{index}]", expected="a name"))
            continue
        name = canonical_name(str(item["name"]))
        kind = _TYPES.get(str(item.get("type", "string")).lower())
        if kind is None:
            faults.append(
                Fault("VALUE", f"parameters.{name}.type", str(item["type"]), ", ".join(_TYPES))
            )
            continue
        parameters[name] = _parameter(name, kind, item)
        if item.get("required"):
            required.append(name)
    return parameters, required


def _parameter(name: str, kind: str, item: Mapping[str, Any]) -> dict[str, Any]:
    parameter: dict[str, Any] = {"type": kind}
    if kind == "string":
        options = item.get("enum") or item.get("options") or item.get("choices")
        form = next((form for pattern, form in _FORMATS if pattern.search(name)), None)
        if options:
            parameter["enum"] = [str(option) for option in options]
        elif form:
            parameter["format"] = form
        else:
            parameter |= {"format": "line", "maxLength": _LONGEST}
    elif kind in ("integer", "number"):
        parameter |= {"minimum": item.get("min", 0), "maximum": item.get("max", 2**31 - 1)}
    if item.get("default") is not None:
        parameter["default"] = item["default"]
    description = str(item.get("description") or "").strip()
    parameter["description"] = description if len(description) >= 5 else f"{name} {description}"
    if len(parameter["description"].strip()) < 5:
        parameter["description"] = f"the {name}"
    return parameter


def _example(name: str, tool: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {key: _value(schema) for key, schema in tool["parameters"]["properties"].items()}

    def fill(word: str) -> str:
        for key, value in inputs.items():
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            word = word.replace(f"{{{key}}}", shown)
        return word.replace("{{", "{").replace("}}", "}")

    argv = [fill(word) for word in tool["command"]["argv"]]
    return {"name": name, "inputs": inputs, "renders": {"argv": argv}}


def _value(schema: Mapping[str, Any]) -> Any:
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "string":
        return _EXAMPLES.get(schema.get("format", ""), "value")
    return schema.get("minimum", True)


def _remaining(text: str) -> list[Fault]:
    """Returns what today's checks still say of the converted file."""
    tool, faults = read_tool(text.encode())
    return faults if tool is None else lint_tool(tool)
