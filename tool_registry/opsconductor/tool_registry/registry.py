"""All tools of one process: loaded once, found by any spelling of their names or by words."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import Fault, UnknownTool
from opsconductor.tool_registry.checked import CheckedFiles
from opsconductor.tool_registry.documents import yaml_reader
from opsconductor.tool_registry.lint.tool import lint_tool
from opsconductor.tool_registry.loader import MAX_BYTES, build_tool, read_tool
from opsconductor.tool_registry.loader import ToolDefinitionInvalid as ToolDefinitionInvalid
from opsconductor.tool_registry.roots import tools_root
from opsconductor.tool_registry.suggestions import canonical_name, close_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from opsconductor.tool_registry.model import Tool

_STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "on",
        "in",
        "to",
        "is",
        "for",
        "and",
        "or",
        "my",
        "me",
        "do",
        "does",
        "how",
        "what",
        "which",
    ]
)


@dataclass(frozen=True, slots=True)
class Source:
    """A tool and the file it came from, for messages."""

    tool: Tool
    file: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of tool files has found."""

    files: int
    faults: list[Fault]


class Registry:
    """Tools by name and alias; ``-``, spaces and case do not matter in names."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools: tuple[Tool, ...] = ()
        self._by_name: Mapping[str, Tool] = {}
        self.replace(tools)

    def replace(self, tools: Sequence[Tool]) -> None:
        """Takes other tools instead; everybody who holds this registry has them from now on."""
        self.tools = tuple(sorted(tools, key=lambda tool: tool.name))
        self._by_name = {
            canonical_name(name): tool for tool in self.tools for name in (*tool.aliases, tool.name)
        }

    @classmethod
    def load(cls, roots: Sequence[Path] | None = None) -> Registry:
        """Reads every ``*.yaml`` below the roots (the shipped tools unless given).

        Raises:
            ToolDefinitionInvalid: Some definition has faults, or two tools share a name; lists all.
        """
        sources, faults = _read_all((tools_root(),) if roots is None else roots)
        if faults:
            raise ToolDefinitionInvalid(
                f"{len(faults)} fault(s) in tool definitions: {faults[0]}", faults=faults
            )
        return cls([source.tool for source in sources])

    @staticmethod
    def check(paths: Sequence[Path]) -> Checked:
        """Reads tool files, and all below folders; returns how many there are and every fault."""
        sources, faults = _read_all(paths)
        broken = {fault.field.partition(":")[0] for fault in faults}
        return Checked(len({source.file for source in sources} | broken), faults)

    def get(self, name: str) -> Tool:
        """Returns a tool by name or alias; raises UnknownTool with names close to it."""
        tool = self.find(name)
        if tool is not None:
            return tool
        close = self.suggest(name)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise UnknownTool(
            f"there is no tool {name[:80]!r}{hint}", metadata={"suggestions": ",".join(close)}
        )

    def find(self, name: str) -> Tool | None:
        """Returns a tool by name or alias, None when there is none."""
        return self._by_name.get(canonical_name(name))

    def suggest(self, name: str) -> list[str]:
        """Returns the names of tools close to a written name, best first."""
        close = [
            self._by_name[canonical_name(found)].name for found in close_names(name, self._by_name)
        ]
        words = set(canonical_name(name).split("_"))
        sharing = [tool.name for tool in self.tools if words & set(tool.name.split("_"))]
        return list(dict.fromkeys([*close, *sharing]))[:3]

    def search(self, query: str, limit: int = 20) -> list[Tool]:
        """Returns the tools whose words match a query, best first; none when no word matches."""
        words = _words(query)
        scored = [(score, tool) for tool in self.tools if (score := _score(tool, words)) > 0]
        scored.sort(key=lambda pair: (-pair[0], pair[1].name))
        return [tool for _, tool in scored[:limit]]

    def digests(self) -> dict[str, str]:
        """Returns the digest of every tool's definition by name."""
        return {tool.name: tool.digest for tool in self.tools}


def _read_all(roots: Sequence[Path]) -> tuple[list[Source], list[Fault]]:
    sources: list[Source] = []
    faults: list[Fault] = []
    checked = CheckedFiles()
    for root in roots:
        if not root.exists():
            faults.append(
                Fault(code="NO_SUCH_FOLDER", field=str(root), expected="a folder of tools")
            )
        for file in sorted(root.rglob("*.yaml")) if root.is_dir() else [root][: root.exists()]:
            tool, found = checked_once(file, checked)
            faults += found
            if tool is not None:
                sources.append(Source(tool, file.name))
    checked.save()
    return sources, faults + name_clashes(sources)


def checked_once(file: Path, checked: CheckedFiles) -> tuple[Tool | None, list[Fault]]:
    """Reads a file; one that has passed before, by this code, is not checked again."""
    data = file.read_bytes()
    definition = checked.get(data)
    if definition is not None and definition.get("name") == file.stem:
        return build_tool(definition, data), []
    tool, faults = check_file(file)
    if tool is not None:
        definition, _, _ = yaml_reader.load(data, max_bytes=MAX_BYTES, too_large="TOOL_TOO_LARGE")
        checked.add(data, definition or {})
    return tool, faults


def check_file(file: Path) -> tuple[Tool | None, list[Fault]]:
    """Reads and lints one file; returns the tool only when it has no fault."""
    tool, faults = read_tool(file.read_bytes())
    if tool is not None:
        faults = lint_tool(tool)
        if tool.name != file.stem:
            faults.append(
                Fault(
                    code="NAME", field="name", found=tool.name, expected=f"{file.stem}, as the file"
                )
            )
    placed = [replace(fault, field=f"{file.name}: {fault.field}".rstrip(": ")) for fault in faults]
    return (None if placed else tool), placed


def name_clashes(sources: Sequence[Source]) -> list[Fault]:
    """Returns a fault for every name that two tools share."""
    owners: dict[str, Source] = {}
    faults: list[Fault] = []
    for source in sources:
        for name in (source.tool.name, *source.tool.aliases):
            owner = owners.setdefault(canonical_name(name), source)
            if owner is not source:
                faults.append(
                    Fault(
                        code="DUPLICATE_TOOL",
                        field=f"{source.file}: {name}",
                        found=f"{name}, which is also {owner.tool.name} of {owner.file}",
                        expected="names and aliases that differ in more than case, - and _",
                    )
                )
    return faults


def _words(text: str) -> set[str]:
    return {_stem(word) for word in re.findall(r"[a-z0-9]+", text.lower()[:1000])} - _STOP_WORDS


def _stem(word: str) -> str:
    for ending in ("ing", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _score(tool: Tool, words: set[str]) -> int:
    fields = (
        (6, tool.name),
        (4, " ".join(tool.aliases)),
        (3, f"{tool.title} {' '.join(tool.use_cases)} {' '.join(tool.keywords)}"),
        (1, f"{tool.description} {tool.category} {tool.platform}"),
    )
    return sum(weight * len(words & _words(text)) for weight, text in fields)
