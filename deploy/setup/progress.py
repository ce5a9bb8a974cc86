"""Runs the commands of the setup while telling a person, in one line, what is going on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

REDRAW_SECONDS = 0.2
LINES_SHOWN_OF_A_FAILURE = 15


class CommandFailed(Exception):
    """A command ended with a non-zero exit code; its output is in the log."""


class Progress:
    """One line that is redrawn on a terminal, and one line for each phase elsewhere.

    Everything the commands print goes to the log, of which the end is shown when one fails.
    """

    def __init__(self, title: str, log: Path) -> None:
        self._title = title
        self._log = log
        self._redraws = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._monotonic = time.monotonic
        self._started = self._monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")

    @property
    def elapsed(self) -> float:
        """Seconds since the first phase began."""
        return self._monotonic() - self._started

    def say(self, text: str) -> None:
        """Writes a line that stays."""
        self._clear()
        sys.stderr.write(f"{self._title}: {text}\n")
        sys.stderr.flush()

    def run(
        self, phase: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> None:
        """Runs a command to its end, and raises CommandFailed when it does not succeed."""
        if not self._redraws:
            self.say(phase)
        with self._log.open("ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )
            code = self._wait(process, phase)
        self._clear()
        if code != 0:
            raise CommandFailed(f"{phase}: exit code {code}")

    def end_of_log(self) -> str:
        """Returns the last lines that the commands printed."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LINES_SHOWN_OF_A_FAILURE:])

    def _wait(self, process: subprocess.Popen[bytes], phase: str) -> int:
        try:
            while True:
                self._draw(phase)
                try:
                    return process.wait(timeout=REDRAW_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            process.terminate()
            process.wait()
            raise

    def _draw(self, phase: str) -> None:
        if self._redraws:
            sys.stderr.write(f"\r\x1b[K{self._title}: {phase} … {self.elapsed:.0f} s")
            sys.stderr.flush()

    def _clear(self) -> None:
        if self._redraws:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
