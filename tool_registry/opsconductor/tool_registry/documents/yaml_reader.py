"""The one strict reader of YAML and JSON documents: tools, plans and inventories.

YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema) without anchors, aliases, merge
keys, tags, duplicate keys or several documents. Every mistake is a Fault with its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from opsconductor.rpc.errors import Fault
from opsconductor.tool_registry.documents.json_reader import JsonReader
from opsconductor.tool_registry.documents.limits import (
    MAX_DEPTH,
    MAX_NODES,
    Refused,
    check_surrogates,
    too_deep,
)
from opsconductor.tool_registry.documents.yaml_scalars import NumberFault, plain_value

_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class _Frame:
    """A collection being read."""

    container: dict[str, Any] | list[Any]
    path: str
    key: str | None = None
    seen: set[str] = field(default_factory=set)


def load(
    data: bytes, *, max_bytes: int, too_large: str = "PLAN_TOO_LARGE"
) -> tuple[dict[str, Any] | None, dict[str, int], list[Fault]]:
    """Reads one mapping; returns it, the line of every path in it, and the faults.

    Lists and single values are a fault; ``load_collection`` takes lists too.

    The value is None when the document cannot be read at all; it is given beside faults that leave
    the rest readable (a number out of range reads as null), so that all mistakes are told at once.
    """
    value, lines, faults = load_collection(data, max_bytes=max_bytes, too_large=too_large)
    if isinstance(value, list):
        return None, {}, [*faults, _not_a_mapping("a list", "one mapping (name: value)")]
    return value, lines, faults


def load_collection(
    data: bytes, *, max_bytes: int, too_large: str = "PLAN_TOO_LARGE"
) -> tuple[dict[str, Any] | list[Any] | None, dict[str, int], list[Fault]]:
    """Reads one mapping or one list as ``load`` reads a mapping."""
    if len(data) > max_bytes:
        fault = Fault(
            code=too_large, found=f"{len(data)} bytes", expected=f"at most {max_bytes} bytes"
        )
        return None, {}, [fault]
    try:
        text = _decoded(data)
        if (
            text.lstrip()[:1] in ("{", "[")
            and (value := JsonReader(too_large).read(text)) is not None
        ):
            return value[0], {}, value[1]
        reader = _Reader(too_large)
        return reader.read(text), reader.lines, reader.faults
    except Refused as refused:
        return None, {}, [refused.fault]


def _decoded(data: bytes) -> str:
    for mark, name in (
        (b"\xef\xbb\xbf", "a byte order mark"),
        (b"\xff\xfe", "UTF-16"),
        (b"\xfe\xff", "UTF-16"),
    ):
        if data.startswith(mark):
            raise Refused(_encoding(data, 0, name))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise Refused(_encoding(data, exc.start, "bytes that are not UTF-8")) from exc
    if found := _FORBIDDEN.search(text):
        offset = len(text[: found.start()].encode("utf-8"))
        raise Refused(_encoding(data, offset, f"U+{ord(found[0]):04X}"))
    return text


def _encoding(data: bytes, offset: int, found: str) -> Fault:
    return Fault(
        code="ENCODING",
        found=f"{found} at byte {offset}",
        expected="UTF-8 text without control characters",
        line=data.count(b"\n", 0, offset) + 1,
    )


class _Reader:
    """Builds the value from the parser's events, so that nothing is expanded or constructed."""

    def __init__(self, too_large: str) -> None:
        self.lines: dict[str, int] = {}
        self.faults: list[Fault] = []
        self._too_large = too_large
        self._stack: list[_Frame] = []
        self._root: Any = None
        self._documents = 0
        self._nodes = 0

    def read(self, text: str) -> dict[str, Any] | list[Any] | None:
        """Returns the top mapping or list, None with a fault when there is neither."""
        try:
            for event in yaml.parse(text, Loader=_LOADER):
                self._take(event)
        except yaml.MarkedYAMLError as exc:
            raise Refused(_syntax(exc, text)) from exc
        except (yaml.YAMLError, RecursionError) as exc:
            raise Refused(Fault(code="YAML_SYNTAX", found=str(exc)[:200])) from exc
        return self._top()

    def _top(self) -> dict[str, Any] | list[Any] | None:
        if isinstance(self._root, dict | list):
            return self._root
        if self._documents == 0 or self._root is None:
            self.faults.append(Fault(code="EMPTY_FILE", expected="one document"))
        else:
            self.faults.append(_not_a_mapping("a single value", "one mapping (name: value)"))
        return None

    def _take(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._start_document(event, line)
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise Refused(
                Fault(
                    code="YAML_ALIAS_LIMIT",
                    found=f"anchor or alias {event.anchor}",
                    expected="no anchors and aliases; write the value out",
                    line=line,
                )
            )
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event.tag, line)
            self._scalar(event, line)
        elif isinstance(event, yaml.MappingStartEvent):
            self._refuse_tag(event.tag, line)
            self._open({}, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._refuse_tag(event.tag, line)
            self._open([], line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._stack.pop()

    def _start_document(self, event: Any, line: int) -> None:
        self._documents += 1
        if self._documents > 1:
            raise Refused(
                Fault(
                    code="ONE_DOCUMENT_EXPECTED",
                    found="a second document",
                    expected="one document",
                    line=line,
                )
            )
        if event.tags:
            self._refuse_tag("%TAG", line)

    def _refuse_tag(self, tag: str | None, line: int) -> None:
        # A lone "!" is the non-specific tag: harmless, but nobody means it.
        if tag is not None:
            raise Refused(
                Fault(
                    code="YAML_TAG_FORBIDDEN",
                    found=f"tag {tag}",
                    expected="no tags; quote the value if it begins with !",
                    line=line,
                )
            )

    def _open(self, container: dict[str, Any] | list[Any], line: int) -> None:
        if self._expects_key():
            raise Refused(_bad_key("a list or mapping", line))
        path = self._place(container, line)
        self._stack.append(_Frame(container, path))
        if len(self._stack) > MAX_DEPTH:
            raise Refused(too_deep(self._too_large, line))

    def _scalar(self, event: Any, line: int) -> None:
        text: str = event.value
        check_surrogates(text, line)
        plain = event.implicit[0]
        if self._expects_key():
            self._key(text, line, plain=plain)
            return
        value: Any = text
        if plain:
            try:
                value = plain_value(text)
            except NumberFault as exc:
                value = None
                self.faults.append(
                    Fault(
                        code="NUMBER",
                        field=self._next_path(),
                        found=text[:40],
                        expected=exc.expected,
                        line=line,
                    )
                )
        self._place(value, line)

    def _key(self, text: str, line: int, *, plain: bool) -> None:
        frame = self._stack[-1]
        if plain and text == "<<":
            raise Refused(
                Fault(code="YAML_MERGE_FORBIDDEN", found="<<", expected="no merge keys", line=line)
            )
        if plain and not isinstance(plain_or_text(text), str):
            raise Refused(_bad_key(text or "an empty key", line))
        frame.key = text
        path = self._next_path()
        if text in frame.seen:
            self.faults.append(
                Fault(
                    code="DUPLICATE_KEY",
                    field=path,
                    found=f"{text} again, first in line {self.lines.get(path, 0)}",
                    expected="every key once",
                    line=line,
                )
            )
        frame.seen.add(text)
        self.lines[path] = line

    def _expects_key(self) -> bool:
        if not self._stack:
            return False
        frame = self._stack[-1]
        return isinstance(frame.container, dict) and frame.key is None

    def _next_path(self) -> str:
        if not self._stack:
            return ""
        frame = self._stack[-1]
        if isinstance(frame.container, list):
            return f"{frame.path}[{len(frame.container)}]"
        return f"{frame.path}.{frame.key}" if frame.path else str(frame.key)

    def _place(self, value: Any, line: int) -> str:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise Refused(too_deep(self._too_large, line))
        path = self._next_path()
        self.lines.setdefault(path, line)
        if not self._stack:
            self._root = value
            return path
        frame = self._stack[-1]
        if isinstance(frame.container, list):
            frame.container.append(value)
        else:
            frame.container[str(frame.key)] = value
            frame.key = None
        return path


def _not_a_mapping(found: str, expected: str) -> Fault:
    return Fault(code="ONE_DOCUMENT_EXPECTED", found=found, expected=expected, line=1)


def plain_or_text(text: str) -> Any:
    """Returns a plain scalar's value; a number out of range counts as a number."""
    try:
        return plain_value(text)
    except NumberFault:
        return 0


def _bad_key(found: str, line: int) -> Fault:
    return Fault(code="TYPE", found=f"{found} as a key", expected="a text key; quote it", line=line)


def _syntax(exc: yaml.MarkedYAMLError, text: str) -> Fault:
    mark = exc.problem_mark or exc.context_mark
    line = mark.line + 1 if mark else 0
    lines = text.split("\n")
    written = lines[line - 1] if 0 < line <= len(lines) else ""
    indent = written[: len(written) - len(written.lstrip())]
    if "\t" in indent or (exc.problem and r"'\t'" in exc.problem):
        offset = len("\n".join(lines[: line - 1]).encode()) + (1 if line > 1 else 0)
        offset += max(written.find("\t"), 0)
        return Fault(
            code="ENCODING",
            found=f"a tab at byte {offset}",
            expected="spaces for indentation",
            line=line,
        )
    problem = " ".join(part for part in (exc.context, exc.problem) if part)
    return Fault(code="YAML_SYNTAX", found=problem, line=line)
