"""Proves that no placeholder's value can be read as an option or as shell text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from opsconductor.rpc.errors import Fault
from opsconductor.tool_registry.formats import FORMATS
from opsconductor.tool_registry.rendering.template import PLACEHOLDER

if TYPE_CHECKING:
    from opsconductor.tool_registry.model import Tool

_JOINED_OPTION = re.compile(r"--[A-Za-z][A-Za-z0-9-]*=")
_UNQUOTED = re.compile(r"(?<![\"\\\w])\$(?:\{?[0-9@*]|\{?[A-Za-z_]\w*)")
TARGET_FIELDS = frozenset(
    [
        "name",
        "type",
        "address",
        "port",
        "segment",
        "connection",
        "credential",
        "service_manager",
        "service_command",
        "environment",
    ]
)
"""Fields of a target that templates may name."""
_SAFE_TARGET = frozenset({"name", "address", "port", "service_command"})


def lint_templates(tool: Tool) -> Iterator[Fault]:
    """Yields the faults of a tool's command, dry run, capture and undo templates."""
    yield from _Template(tool, "command", captured=False).faults(tool.command)
    if tool.dry_run is not None:
        yield from _Template(tool, "dry_run.command", captured=False).faults(tool.dry_run.command)
    if tool.capture is not None:
        yield from _Template(tool, "capture.command", captured=False).faults(tool.capture.command)
    if tool.undo.command is not None:
        yield from _Template(tool, "undo.command", captured=True).faults(tool.undo.command)
    for number, lock in enumerate(tool.locks):
        yield from _Template(tool, f"locks[{number}].key", captured=False).names(lock["key"])


class _Template:
    """One command template of a tool."""

    def __init__(self, tool: Tool, path: str, *, captured: bool) -> None:
        self._tool = tool
        self._path = path
        self._captured = captured

    def faults(self, template: Mapping[str, Any]) -> Iterator[Fault]:
        """Yields what is wrong with the template."""
        if "by" in template:
            yield from self._known(template["by"])
            for name, case in template["cases"].items():
                path = f"{self._path}.cases.{name}"
                yield from _Template(self._tool, path, captured=self._captured).faults(case)
        elif "argv" in template:
            yield from self._argv(template["argv"], options_ended=False)
        elif "script" in template:
            yield from self._script(template["script"])
        elif "powershell" in template:
            yield from self._powershell(template["powershell"])
        elif "sql" in template:
            yield from self._sql(template["sql"])
        else:
            for text in _texts(template):
                yield from self.names(text)

    def names(self, text: str) -> Iterator[Fault]:
        """Yields the placeholders of a text that name nothing."""
        for found in PLACEHOLDER.finditer(text):
            if found[1] is not None:
                yield from self._known(found[1])

    def _argv(self, items: list[Any], *, options_ended: bool) -> Iterator[Fault]:
        ended = options_ended
        for item in items:
            if isinstance(item, str):
                yield from self._word(item, ended=ended)
                ended = ended or item == "--"
            elif isinstance(item, list):
                for word in item:
                    yield from self._word(word, ended=ended)
            elif "if" in item:
                yield from self._known(item["if"]["param"])
                yield from self._argv(item["then"], options_ended=ended)
                yield from self._argv(item.get("else", []), options_ended=ended)
            elif "each" in item:
                yield from self._each(item, ended=ended)
            else:
                yield from self._known(item.get("map") or item["words"])

    def _each(self, item: Mapping[str, Any], *, ended: bool) -> Iterator[Fault]:
        yield from self._known(item["each"])
        if self._tool.properties.get(item["each"], {}).get("type") != "array":
            yield self._fault(f"each: {item['each']}", "a parameter that is a list")
        for word in item["item"]:
            yield from self._word(word, ended=ended, each=item["each"])

    def _word(self, word: str, *, ended: bool, each: str = "") -> Iterator[Fault]:
        yield from self.names(word)
        first = PLACEHOLDER.match(word)
        if first is None or first[1] is None or ended or _JOINED_OPTION.match(word):
            return
        name = each if first[1] == "item" else first[1]
        if not self._cannot_be_option(name):
            yield self._fault(
                f"{{{first[1]}}} can begin with -",
                "-- before it, --option={value}, or a format that cannot begin with -",
            )

    def _cannot_be_option(self, name: str) -> bool:
        tool = self._tool
        source = tool.risk_from
        if source is not None and source.parser == "argv" and name == source.parameter:
            return True
        root, _, key = name.partition(".")
        if root == "target":
            return key in _SAFE_TARGET
        if root == "captured":
            return False
        parameter = tool.properties.get(name, {})
        return _starts_safely(parameter.get("items", parameter))

    def _script(self, script: Mapping[str, Any]) -> Iterator[Fault]:
        for key in ("interpreter_from", "body_from"):
            if key in script:
                yield from self._known(script[key])
        if "body" not in script:
            yield from self._given_script(script)
            yield from self._argv(script.get("args", []), options_ended=True)
            return
        if script["interpreter"] == "cmd":
            if script.get("args"):
                yield self._fault("arguments of a cmd script", "none: cmd.exe has no safe quoting")
            return
        if script["interpreter"] != "python3":
            yield from self._shell(script["body"])
        yield from self._argv(script.get("args", []), options_ended=True)

    def _given_script(self, script: Mapping[str, Any]) -> Iterator[Fault]:
        annotations, source = self._tool.annotations, self._tool.risk_from
        if annotations.read_only or not annotations.destructive:
            yield self._fault("a script given by the caller", "annotations.destructive: true")
        judged = ("script", script["body_from"], script["interpreter_from"])
        found = source and (source.parser, source.parameter, source.interpreter)
        if source is not None and found != judged:
            wanted = f"parameter: {judged[1]}, interpreter: {judged[2]}"
            yield self._fault(
                "risk_from of another text", f"risk_from: {{parser: script, {wanted}}}"
            )

    def _powershell(self, script: Mapping[str, Any]) -> Iterator[Fault]:
        for key in ("body_from", "parameters_from"):
            if key in script:
                yield from self._known(script[key])
        for text in _texts(script.get("parameters", {})):
            yield from self.names(text)
        if "body" not in script:
            if self._tool.annotations.read_only or not self._tool.annotations.destructive:
                yield self._fault("a script given by the caller", "annotations.destructive: true")
            return
        if re.search(r"(?i)\b(?:invoke-expression|iex)\b", script["body"]):
            yield self._fault("Invoke-Expression in the script", "no Invoke-Expression")
        named = re.findall(r"\$([A-Za-z]\w*)", re.split(r"\)\s*\n", script["body"], maxsplit=1)[0])
        for name in script.get("parameters", {}):
            if name.lower() not in {word.lower() for word in named}:
                yield self._fault(f"parameter {name}", f"${name} in the param() of the script")

    def _sql(self, sql: Mapping[str, Any]) -> Iterator[Fault]:
        for key in ("statement_from", "binds_from"):
            if key in sql:
                yield from self._known(sql[key])
        if "statement_from" in sql:
            source = self._tool.risk_from
            if source is None or (source.parser, source.parameter) != (
                "sql",
                sql["statement_from"],
            ):
                wanted = f"risk_from: {{parser: sql, parameter: {sql['statement_from']}}}"
                yield self._fault("a statement given by the caller", wanted)
        for text in _texts({key: sql[key] for key in sql if not key.endswith("_from")}):
            yield from self.names(text)

    def _shell(self, body: str) -> Iterator[Fault]:
        if re.search(r"(?m)(?:^|[;&|(]|\s)eval\s", body):
            yield self._fault("eval in the script", "no eval")
        if "`" in body:
            yield self._fault("a backtick in the script", "$( )")
        for number, line in enumerate(body.splitlines(), 1):
            if found := _unquoted(line):
                yield self._fault(f"{found} unquoted in script line {number}", f'"{found}"')

    def _known(self, name: str) -> Iterator[Fault]:
        root, _, key = name.partition(".")
        if name == "item":
            return
        if not key:
            known = name in self._tool.properties
        elif root == "target":
            known = key in TARGET_FIELDS
        else:
            known = root == "captured" and self._captured and key in self._captures()
        if not known:
            yield self._fault(f"{{{name}}}", "a parameter, target field or captured value")

    def _captures(self) -> Mapping[str, Any]:
        output = self._tool.capture.output if self._tool.capture else {}
        properties: Mapping[str, Any] = output.get("schema", {}).get("properties", {})
        return properties

    def _fault(self, found: str, expected: str) -> Fault:
        return Fault(code="TOOL_LINT", field=self._path, found=found, expected=expected)


def _starts_safely(parameter: Mapping[str, Any]) -> bool:
    kind = parameter.get("type")
    if kind == "boolean":
        return True
    if kind in ("integer", "number"):
        return bool(parameter.get("minimum", -1) >= 0)
    if "enum" in parameter:
        return not any(str(value).startswith("-") for value in parameter["enum"])
    form = FORMATS.get(parameter.get("format", ""))
    return form is not None and form.safe_start


def _unquoted(line: str) -> str:
    """Returns the first expansion outside double quotes and assignments: the shell splits it."""
    if line.lstrip().startswith("#"):
        return ""
    bare = _outside_quotes(line)
    for found in _UNQUOTED.finditer(bare):
        before = bare[: found.start()]
        assigned = re.search(r"(?:^|[\s;])[A-Za-z_]\w*=\S*\Z", before)
        switched = re.search(r"\bcase\s+\Z", before)
        if not assigned and not switched:
            return found[0]
    return ""


def _outside_quotes(line: str) -> str:
    """Blanks what stands in quotes; ``$( )`` inside double quotes starts unquoted text again."""
    result: list[str] = []
    stack: list[str] = []
    skip = False
    for position, character in enumerate(line):
        inside = stack[-1] if stack else ""
        quoted = inside in ("'", '"')
        result.append(" " if quoted and character not in "'\"" else character)
        if skip:
            skip = False
        elif inside == "'":
            if character == "'":
                stack.pop()
        elif character == "\\":
            skip = True
        elif character == '"':
            stack.pop() if inside == '"' else stack.append('"')
        elif character == "'" and inside != '"':
            stack.append("'")
        elif character == "(" and position and line[position - 1] == "$":
            stack.append("(")
        elif character == ")" and inside == "(":
            stack.pop()
    return "".join(result)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
