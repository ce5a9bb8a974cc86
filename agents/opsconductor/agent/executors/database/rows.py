"""Rows of a result: streamed as JSON lines, kept up to limits, every value as plain JSON."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import Sink

_MOST_STRUCTURED = 48 * 1024
_LARGEST_INTEGER = 2**53 - 1


class Rows:
    """Takes the rows of one statement."""

    def __init__(self, sink: Sink, *, limit: int, max_bytes: int) -> None:
        self._sink = sink
        self._limit = limit
        self._max_bytes = max_bytes
        self._columns: tuple[str, ...] = ()
        self._kept: list[dict[str, Any]] = []
        self._structured = 0
        self._streamed = 0
        self.count = 0
        self.truncated = False
        """Whether there was more than the limits allow."""
        self.value: Any = None
        """The answer of a database that has no rows."""

    @property
    def wanted(self) -> int:
        """Returns how many rows are worth reading: one more than allowed tells that there are."""
        return self._limit + 1

    def name(self, columns: Sequence[str]) -> None:
        """Takes the names of the columns; a name that comes again gets a number."""
        seen: dict[str, int] = {}
        names = []
        for column in columns:
            seen[column] = seen.get(column, 0) + 1
            names.append(column if seen[column] == 1 else f"{column}_{seen[column]}")
        self._columns = tuple(names)

    async def add(self, rows: Iterable[Sequence[Any]]) -> bool:
        """Takes some rows; returns whether more are wanted."""
        lines = bytearray()
        for row in rows:
            if self.count >= self._limit:
                self.truncated = True
                break
            named = dict(zip(self._columns, map(plain, row), strict=True))
            line = json.dumps(named, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
            if self._streamed + len(lines) + len(line) > self._max_bytes:
                self.truncated = True
                break
            lines += line
            self.count += 1
            self._structured += len(line)
            if self._structured <= _MOST_STRUCTURED:
                self._kept.append(named)
        if lines:
            self._streamed += len(lines)
            await self._sink.write("stdout", bytes(lines))
        return not self.truncated

    async def answer(self, value: Any) -> None:
        """Takes the one answer of a database that has no rows; a long one is cut."""
        shown = plain(value)
        line = json.dumps(shown, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        self.truncated = len(line) > _MOST_STRUCTURED
        await self._sink.write("stdout", line[: self._max_bytes])
        if not self.truncated:
            self.value = shown
        elif isinstance(shown, list):
            self.value = _fitting(shown)
        else:
            self.value = str(shown)[: _MOST_STRUCTURED // 4]

    def output(self, affected: int | None, *, dry_run: bool) -> dict[str, Any]:
        """Returns the structured output of the statement."""
        output: dict[str, Any] = {
            "columns": list(self._columns),
            "rows": self._kept,
            "row_count": self.count,
            "truncated": self.truncated or len(self._kept) < self.count,
        }
        if affected is not None:
            output["rows_affected"] = affected
        if dry_run:
            output["dry_run"] = True
        return output


def plain(value: Any) -> Any:
    """Returns a value of a database as JSON; what JSON cannot hold becomes its text."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if abs(value) <= _LARGEST_INTEGER else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return _of_bytes(bytes(value))
        case Mapping():
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    return str(value)  # decimals, intervals, addresses, UUIDs


def _fitting(items: list[Any]) -> list[Any]:
    kept, size = [], 0
    for item in items:
        size += len(json.dumps(item, ensure_ascii=False).encode("utf-8", "replace")) + 2
        if size > _MOST_STRUCTURED:
            break
        kept.append(item)
    return kept


def _of_bytes(data: bytes) -> Any:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}
