"""Cuts streamed output into lines that can be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.cli.escape import escape, escape_name
from opsconductor.v1 import execution_service_pb2 as executions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opsconductor.v1.execution_service_pb2 import ReadOutputResponse

_LONGEST_LINE = 16 * 1024
"""A line without end is shown in parts of this many bytes."""


class OutputLines:
    """Collects pieces of output per attempt and stream and gives back whole lines, escaped.

    A line of standard output reads ``step | text``, one of standard error ``step ! text``.
    """

    def __init__(self) -> None:
        self._rest: dict[tuple[str, str, int], bytes] = {}

    def add(self, piece: ReadOutputResponse) -> Iterator[str]:
        """Returns the lines that a piece completes."""
        key = (piece.step_id, piece.attempt_id, piece.stream)
        if piece.gap_bytes:
            if rest := self._rest.pop(key, b""):
                yield _line(key, rest)
            yield f"{_prefix(key)} [… {piece.gap_bytes} bytes left out …]"
        *whole, rest = (self._rest.pop(key, b"") + piece.data).split(b"\n")
        for line in whole:
            yield _line(key, line.removesuffix(b"\r"))
        while len(rest) > _LONGEST_LINE:
            yield _line(key, rest[:_LONGEST_LINE])
            rest = rest[_LONGEST_LINE:]
        if rest:
            self._rest[key] = rest

    def finish(self, attempt_id: str | None = None) -> Iterator[str]:
        """Returns what is left without a line end, of all attempts or of one."""
        for key in [key for key in self._rest if attempt_id in (None, key[1])]:
            yield _line(key, self._rest.pop(key))


def _line(key: tuple[str, str, int], line: bytes) -> str:
    return f"{_prefix(key)} {escape(line.decode(errors='backslashreplace'))}"


def _prefix(key: tuple[str, str, int]) -> str:
    step, _, stream = key
    return f"{escape_name(step)} {'!' if stream == executions.OUTPUT_STREAM_STDERR else '|'}"
