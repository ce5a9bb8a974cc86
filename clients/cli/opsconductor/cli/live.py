"""Shows a running execution: as lines for pipes and logs, or live on a terminal."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Protocol

from opsconductor.cli import formats
from opsconductor.cli.escape import escape_line, escape_name
from opsconductor.cli.lines import OutputLines
from opsconductor.cli.plain import word
from opsconductor.cli.terminal import style_of
from opsconductor.v1 import execution_service_pb2 as executions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from opsconductor.cli.terminal import Terminal
    from opsconductor.v1.execution_service_pb2 import Execution, ReadOutputResponse, WatchResponse

_ROWS = 10
"""Steps shown at a time below the output."""


class View(Protocol):
    """What a run is shown with."""

    wants_output: bool
    """Whether output should be fetched."""

    def event(self, event: WatchResponse) -> None:
        """Shows that something happened."""
        ...

    def output(self, piece: ReadOutputResponse) -> None:
        """Shows a piece of output."""
        ...

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Steps aside while a person is asked."""
        ...

    def close(self) -> None:
        """Shows what is left and gives the terminal back."""
        ...


class SilentView:
    """Shows nothing."""

    wants_output = False

    def event(self, event: WatchResponse) -> None:
        """Does nothing."""

    def output(self, piece: ReadOutputResponse) -> None:
        """Does nothing."""

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Returns at once."""
        return contextlib.nullcontext()

    def close(self) -> None:
        """Does nothing."""


class LineView:
    """Writes a line for each change of state and each line of output."""

    wants_output = True

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._lines = OutputLines()
        self._shown: dict[str, str] = {}

    def event(self, event: WatchResponse) -> None:
        """Writes what changed; events that change no state are left out."""
        line = changed(event, self._shown)
        if line is not None:
            self._terminal.say(line)

    def output(self, piece: ReadOutputResponse) -> None:
        """Writes the lines a piece completes."""
        for line in self._lines.add(piece):
            self._terminal.say(line)

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Returns at once."""
        return contextlib.nullcontext()

    def close(self) -> None:
        """Writes unfinished lines."""
        for line in self._lines.finish():
            self._terminal.say(line)


class LiveView:
    """Keeps a progress bar and the steps at the bottom of the terminal, output scrolls above."""

    wants_output = True

    def __init__(self, terminal: Terminal, execution: Execution) -> None:
        from rich.live import Live

        self._console = terminal.console
        self._lines = OutputLines()
        self._shown: dict[str, str] = {}
        self._steps = {step.step_id: "pending" for step in execution.steps}
        self._since: dict[str, float] = {}
        self._progress = execution.progress
        self._live: Live = Live(
            console=self._console, get_renderable=self._render, refresh_per_second=8, transient=True
        )
        self._live.start()

    def event(self, event: WatchResponse) -> None:
        """Updates the steps; an end of a step stays in the scroll-back."""
        self._progress = event.progress
        line = changed(event, self._shown)
        if event.step_id and event.step_state:
            status = word(executions.StepState.DESCRIPTOR, event.step_state)
            if self._steps.get(event.step_id) != status:
                self._since[event.step_id] = time.monotonic()
            self._steps[event.step_id] = status
        if line is not None:
            self._print(line, style_of(self._steps.get(event.step_id, "")))

    def output(self, piece: ReadOutputResponse) -> None:
        """Writes the lines a piece completes above the steps."""
        for line in self._lines.add(piece):
            self._print(line)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Takes the steps off the terminal for a while."""
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    def close(self) -> None:
        """Writes unfinished lines and takes the steps off the terminal."""
        for line in self._lines.finish():
            self._print(line)
        self._live.stop()

    def _print(self, line: str, style: str = "") -> None:
        from rich.text import Text

        self._console.print(Text(line, style), soft_wrap=True)

    def _render(self) -> Group:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        done = sum(status in _ENDED for status in self._steps.values())
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=100, completed=self._progress, width=self._console.width // 3),
            Text(f"{self._progress} %"),
            Text(f"{done}/{len(self._steps)} steps", "dim"),
        )
        active = [item for item in self._steps.items() if item[1] not in _ENDED]
        rows = [self._row(step, status) for step, status in active[:_ROWS]]
        if len(active) > _ROWS:
            rows.append(Text(f"  … and {len(active) - _ROWS} more", "dim"))
        return Group(head, *rows)

    def _row(self, step: str, status: str) -> Text:
        from rich.text import Text

        row = Text(f"  {escape_name(step)} ")
        row.append(status, style_of(status) or "dim")
        if status in ("running", "rolling_back") and step in self._since:
            row.append(f" {formats.duration(time.monotonic() - self._since[step])}", "dim")
        return row


_ENDED = {
    "completed",
    "skipped",
    "failed",
    "timed_out",
    "unreachable",
    "cancelled",
    "cancel_unverified",
    "rolled_back",
    "rollback_failed",
}


def changed(event: WatchResponse, shown: dict[str, str]) -> str | None:
    """Returns a line about an event that changed a state and remembers that state in ``shown``."""
    name = event.step_id
    if name:
        status = word(executions.StepState.DESCRIPTOR, event.step_state)
    else:
        status = word(executions.ExecutionState.DESCRIPTOR, event.execution_state)
    if not status or shown.get(name) == status:
        return None
    shown[name] = status
    text = f"{escape_name(name)}: {status}" if name else f"{status}"
    return f"{text} — {escape_line(event.summary)}" if event.summary else text
