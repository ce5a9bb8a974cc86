"""Background processes that opsctl starts, finds again and stops."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_POLL_SECONDS = 0.02
_LOG_TAIL_BYTES = 4096
_DEAD = (b"Z", b"X")


@dataclass(frozen=True, slots=True)
class BackgroundProcess:
    """A process known by a pid file, which holds its pid and when it began.

    A pid can be taken by somebody else after a crash; no two processes share both. Arguments would
    not do: a process that is being started or is dying shows none.
    """

    name: str
    """What people call it."""
    pid_file: Path
    """Where its pid is kept."""
    log_file: Path
    """Where its output goes."""

    def find(self) -> int | None:
        """Returns the pid of the process until it is gone with all it held, or None."""
        try:
            pid, began = map(int, self.pid_file.read_text().split())
        except (OSError, ValueError):
            return None
        return pid if _living(pid) == began else None

    def start(
        self, arguments: Sequence[str], variables: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts it in its own session, so that no signal of our terminal reaches it.

        Args:
            arguments: The program and its arguments.
            variables: Environment variables on top of ours.
        """
        self.log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **(variables or {})},
            )
        temporary = self.pid_file.with_suffix(".pid.new")
        temporary.write_text(f"{process.pid} {_living(process.pid) or 0}\n")
        temporary.replace(self.pid_file)
        return process

    def stop(self, grace_seconds: float) -> Literal["not running", "stopped", "killed"]:
        """Asks it to end and kills it when it does not; returns what happened."""
        pid = self.find()
        if pid is None:
            self.pid_file.unlink(missing_ok=True)
            return "not running"
        _signal(pid, signal.SIGTERM)
        outcome: Literal["stopped", "killed"] = "stopped"
        if not self._gone_within(grace_seconds):
            outcome = "killed"
            _signal(pid, signal.SIGKILL)
            self._gone_within(grace_seconds)
        self.pid_file.unlink(missing_ok=True)
        return outcome

    def log_tail(self) -> str:
        """Returns the last lines it wrote."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-15:])

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.find() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _living(pid: int) -> int | None:
    """Returns when a process began, in clock ticks after boot; None when it has ended.

    A killed process keeps its files, and so its locks and ports, until its last thread is gone.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name before the closing parenthesis can hold anything.
    state, *numbers = stat.rpartition(b")")[2].split()
    threads, began = int(numbers[16]), int(numbers[18])
    return None if state in _DEAD and threads <= 1 else began
