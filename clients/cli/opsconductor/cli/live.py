"""Shows a running execution: as lines for pipes and logs, or live on a terminal."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Protocol

from opsconductor.cli import formats
from opsconductor.cli.escape import escape_name
from opsconductor.cli.plain import word
from opsconductor.cli.story import Story
from opsconductor.cli.terminal import style_of
from opsconductor.v1 import execution_service_pb2 as executions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from opsconductor.cli.story import Line
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

    def note(self, text: str) -> None:
        """Says something about the run itself, on standard error."""
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

    def note(self, text: str) -> None:
        """Does nothing."""

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Returns at once."""
        return contextlib.nullcontext()

    def close(self) -> None:
        """Does nothing."""


class LineView:
    """Writes a line for each thing a person waits for and each line of output."""

    def __init__(self, terminal: Terminal, *, output: bool = True) -> None:
        self.wants_output = output
        self._terminal = terminal
        self._story = Story(output=output)

    def event(self, event: WatchResponse) -> None:
        """Writes what happened."""
        self._say(self._story.event(event))

    def output(self, piece: ReadOutputResponse) -> None:
        """Writes the lines a piece completes."""
        self._say(self._story.output(piece))

    def note(self, text: str) -> None:
        """Writes the line."""
        self._terminal.note(text)

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Writes what was held back and returns."""
        self._say(self._story.rest())
        return contextlib.nullcontext()

    def close(self) -> None:
        """Writes unfinished lines."""
        self._say(self._story.rest())

    def _say(self, lines: Iterator[Line]) -> None:
        for line in lines:
            self._terminal.say(line.text)


class LiveView:
    """Keeps a progress bar and the steps at the bottom of the terminal, output scrolls above."""

    def __init__(self, terminal: Terminal, execution: Execution, *, output: bool = True) -> None:
        self.wants_output = output
        self._terminal = terminal
        self._console = terminal.console
        self._story = Story(output=output)
        self._steps = {step.step_id: "pending" for step in execution.steps}
        self._since: dict[str, float] = {}
        self._progress = execution.progress
        self._live = self._shown()

    def event(self, event: WatchResponse) -> None:
        """Updates the steps; what happened stays in the scroll-back."""
        self._progress = event.progress
        if event.step_id and event.step_state:
            status = word(executions.StepState.DESCRIPTOR, event.step_state)
            if self._steps.get(event.step_id) != status:
                self._since[event.step_id] = time.monotonic()
            self._steps[event.step_id] = status
        self._print(self._story.event(event))

    def output(self, piece: ReadOutputResponse) -> None:
        """Writes the lines a piece completes above the steps."""
        self._print(self._story.output(piece))

    def note(self, text: str) -> None:
        """Writes the line above the steps, which leave the terminal for a moment."""
        self._live.stop()
        self._terminal.note(text)
        self._live = self._shown()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Takes the steps off the terminal for a while."""
        self._print(self._story.rest())
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._shown()

    def close(self) -> None:
        """Writes unfinished lines and takes the steps off the terminal."""
        self._print(self._story.rest())
        self._live.stop()

    def _shown(self) -> Live:
        """Puts the steps on the terminal, below what stands there.

        Each time anew: a display that is started again would wipe the lines written meanwhile.
        """
        from rich.live import Live

        live = Live(
            console=self._console, get_renderable=self._render, refresh_per_second=8, transient=True
        )
        live.start()
        return live

    def _print(self, lines: Iterator[Line]) -> None:
        from rich.text import Text

        for line in lines:
            self._console.print(Text(line.text, line.style), soft_wrap=True)

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
