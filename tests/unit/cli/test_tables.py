from __future__ import annotations

import io

from rich.console import Console

from opsconductor.cli.terminal import Terminal


def shown(width: int) -> list[str]:
    out = io.StringIO()
    terminal = Terminal(out, io.StringIO())
    terminal.console = Console(file=out, width=width)
    terminal.table(
        ("AGENT", "STATE", "SEGMENT"), [("one", "online", "dmz"), ("two", "", "\x1b[2J")]
    )
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_wide_terminal_gets_a_line_for_each_row() -> None:
    assert shown(80) == [
        "AGENT  STATE   SEGMENT",
        "one    online  dmz",
        "two            \\u001b[2J",
    ]


def test_a_terminal_too_narrow_for_the_columns_gets_a_paragraph_for_each_row() -> None:
    assert shown(20) == [
        "AGENT    one",
        "STATE    online",
        "SEGMENT  dmz",
        "",
        "AGENT    two",
        "SEGMENT  \\u001b[2J",
        "",
    ]
