"""Writes stored output: exactly, or as lines a terminal cannot be tricked with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.cli.escape import escape_name
from opsconductor.cli.lines import OutputLines
from opsconductor.client.words import stream_word
from opsconductor.v1.execution_service_pb2 import OUTPUT_STREAM_STDERR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opsconductor.cli.terminal import Terminal
    from opsconductor.v1.execution_service_pb2 import ReadOutputResponse


def write_raw(terminal: Terminal, pieces: Iterable[ReadOutputResponse]) -> None:
    """Writes the bytes as they were produced, each stream to its own."""
    for piece in pieces:
        if piece.gap_bytes:
            where = f"{escape_name(piece.step_id)}, {stream_word(piece.stream)}"
            terminal.note(f"opsctl: {piece.gap_bytes} bytes left out here ({where})")
        stream = terminal.err if piece.stream == OUTPUT_STREAM_STDERR else terminal.out
        stream.buffer.write(piece.data)
        stream.buffer.flush()


def write_lines(terminal: Terminal, pieces: Iterable[ReadOutputResponse]) -> None:
    """Writes escaped lines with the step's name before each, both streams to standard output."""
    lines = OutputLines()
    for piece in pieces:
        for line in lines.add(piece):
            terminal.say(line)
    for line in lines.finish():
        terminal.say(line)
