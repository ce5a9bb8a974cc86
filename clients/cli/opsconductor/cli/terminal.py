"""What opsctl writes to: results on standard output, what is said around them on standard error."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from opsconductor.cli.escape import escape, escape_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TextIO

    from rich.console import Console

_PIPE_WIDTH = 4096
"""Width for pipes and files: rows must stay on one line for grep."""
_NARROWEST_COLUMN = 9

_STYLES = {
    "completed": "green",
    "approved": "green",
    "online": "green",
    "ok": "green",
    "running": "cyan",
    "rolling_back": "yellow",
    "rolled_back": "yellow",
    "approval_required": "yellow",
    "pending_approval": "yellow",
    "attention_required": "bold magenta",
    "unknown": "bold magenta",
    "cancel_unverified": "bold magenta",
    "rollback_failed": "bold red",
    "failed": "red",
    "timed_out": "red",
    "unreachable": "red",
    "rejected": "red",
    "expired": "red",
    "missing": "red",
    "suspect": "yellow",
    "draining": "yellow",
    "offline": "dim",
    "skipped": "dim",
    "low": "green",
    "medium": "yellow",
    "high": "red",
    "critical": "bold red",
    "read_only": "green",
    "modify": "yellow",
    "destructive": "red",
}


class Format(StrEnum):
    """How a result is written."""

    table = "table"
    json = "json"
    yaml = "yaml"


class Terminal:
    """Standard output and standard error of one run of opsctl.

    Everything passes through ``escape``: what comes from targets or from the server never reaches a
    terminal as control characters.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.out = out or sys.stdout
        self.err = err or sys.stderr

    @property
    def interactive(self) -> bool:
        """Whether a person can be shown things and asked."""
        return sys.stdin.isatty() and self.out.isatty()

    @cached_property
    def console(self) -> Console:
        """The Rich console on standard output."""
        return _console(self.out)

    @cached_property
    def _error_console(self) -> Console:
        return _console(self.err)

    def data(self, value: Any, form: Format) -> None:
        """Writes one JSON or YAML document to standard output; both escape what is not ASCII."""
        if form is Format.yaml:
            import yaml

            text = yaml.safe_dump(value, sort_keys=False, allow_unicode=False)
        else:
            text = json.dumps(value, indent=2, ensure_ascii=True) + "\n"
        self.out.write(text)
        self.out.flush()

    def say(self, text: str, *, style: str = "") -> None:
        """Writes a line of the result for people."""
        self._print(self.console if self._styled(self.out, style) else None, self.out, text, style)

    def note(self, text: str, *, style: str = "") -> None:
        """Writes a line about the result to standard error."""
        styled = self._styled(self.err, style)
        self._print(self._error_console if styled else None, self.err, text, style)

    def fields(
        self, pairs: Iterable[tuple[str, str]], styles: Mapping[str, str] | None = None
    ) -> None:
        """Writes names and values, one pair a line; empty values are left out.

        Args:
            pairs: Names and values; further lines of a value are indented below its first.
            styles: Rich styles of lines, by name.
        """
        shown = [(name, value) for name, value in pairs if value]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            indented = value.replace("\n", "\n" + " " * (width + 2))
            self.say(f"{name.ljust(width)}  {indented}", style=(styles or {}).get(name, ""))

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Writes a table; words for states and risks get their colours.

        A terminal too narrow for the columns gets a paragraph for each row instead.
        """
        from rich.table import Table
        from rich.text import Text

        if self.console.width < len(headers) * _NARROWEST_COLUMN:
            for row in rows:
                self.fields(
                    [(name, escape_line(cell)) for name, cell in zip(headers, row, strict=True)]
                )
                self.say("")
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for header in headers:
            table.add_column(Text(escape_line(header)), overflow="fold")
        for row in rows:
            table.add_row(*(Text(escape_line(cell), _STYLES.get(cell, "")) for cell in row))
        self.console.print(table)

    def confirm(self, question: str) -> bool:
        """Asks a yes/no question on the terminal; no answer means no."""
        self.out.write(f"{question} [y/N] ")
        self.out.flush()
        answer = sys.stdin.readline()
        if not answer:
            self.out.write("\n")
        return answer.strip().lower() in ("y", "yes")

    @staticmethod
    def _styled(stream: TextIO, style: str) -> bool:
        # A cheap look first: Rich is imported only where colours can appear.
        return bool(style) and stream.isatty() and not os.environ.get("NO_COLOR")

    @staticmethod
    def _print(console: Console | None, stream: TextIO, text: str, style: str) -> None:
        if console is None:
            stream.write(escape(text) + "\n")
            stream.flush()
            return
        from rich.text import Text

        console.print(Text(escape(text), style), soft_wrap=True)


def style_of(status: str) -> str:
    """Returns the Rich style of a status or risk word; "" for others."""
    return _STYLES.get(status, "")


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(
        file=stream,
        markup=False,
        emoji=False,
        highlight=False,
        width=None if stream.isatty() else _PIPE_WIDTH,
    )
