"""The folder of a supervised run: what its supervisor and successive agents tell each other.

===================  ==============================================================================
``kept``             what the agent needs to judge the end, should it be another process by then
``start``            the command, for the supervisor
``lock``             held for as long as the supervisor lives, and by nobody else
``news``             a pipe with a name; the supervisor writes to it whenever there is something new
``record``           process id and start time of the supervisor; without it nothing has begun
``command``          the same of the command
``stdout.N``         output as it came, in pieces of one size; deleted when taken
``stdout.taken``     how far the agent has come with it
``exit``             how the command ended, on disk before the lock is let go
``trouble``          what the supervisor itself failed with
===================  ==============================================================================
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from opsconductor.agent.executors.local.supervisor import SEGMENT_BYTES
from opsconductor.agent.executors.processes import ProcessId

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from opsconductor.agent.executors.base import Stream

STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")

_TAKEN = struct.Struct("<4Q")


class Taken(NamedTuple):
    """Between which two points the agent was when it last moved output on."""

    passed: int
    """Bytes handed on before the move."""
    passed_next: int
    raw: int
    """Bytes of the command's own output these stand for; masking changes lengths."""
    raw_next: int


class Pids(NamedTuple):
    """Who runs a command."""

    supervisor: ProcessId
    command: ProcessId | None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a command ended."""

    code: int
    lengths: dict[Stream, int]
    """Bytes kept of each stream."""
    lost: Mapping[Stream, int] = field(default_factory=dict)
    """Bytes of each stream that the disk did not take."""
    error_number: int = 0
    """Why it could not be started; 0 when it was."""


@dataclass(frozen=True, slots=True)
class Start:
    """A command for the supervisor."""

    program: bytes
    arguments: Sequence[bytes]
    environment: Sequence[bytes]
    linger: float
    """Seconds that output of background children is still read."""
    deadline: float
    """On the boot clock, for the agent."""
    start_by: float
    """On the boot clock: a supervisor that comes later lets nothing begin."""
    cgroup: bytes = b""

    def to_bytes(self) -> bytes:
        """Returns what the supervisor reads; no part can hold a NUL byte."""
        times = (b"%f" % self.linger, b"%f" % self.deadline, b"%f" % self.start_by)
        head = (self.program, self.cgroup, *times, b"%d" % len(self.arguments))
        return b"\0".join((*head, *self.arguments, *self.environment))

    @classmethod
    def from_bytes(cls, data: bytes) -> Start:
        """Restores it."""
        program, cgroup, linger, deadline, start_by, count, *rest = data.split(b"\0")
        arguments, environment = rest[: int(count)], rest[int(count) :]
        times = float(linger), float(deadline), float(start_by)
        return cls(program, arguments, environment, *times, cgroup)


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self, start: Start) -> int:
        """Makes everything the supervisor needs; returns the locked lock file. Raises OSError."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        (self.path / "start").write_bytes(start.to_bytes())
        os.mkfifo(self.path / "news", 0o600)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock

    @property
    def start(self) -> Start:
        """The command as it was given to the supervisor; raises OSError."""
        return Start.from_bytes((self.path / "start").read_bytes())

    def is_supervised(self) -> bool:
        """Whether a supervisor lives: the lock tells, whatever process ids say."""
        try:
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def is_over(self) -> bool:
        """Whether the command has ended, or nobody is there to tell."""
        return bool(self._text("exit")) or not self.is_supervised()

    def open_news(self) -> int:
        """Opens the pipe of news for reading; raises OSError."""
        return os.open(self.path / "news", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def pids(self) -> Pids | None:
        """Who runs the command; None before it can have begun."""
        supervisor = self._identity("record")
        return Pids(supervisor, self._identity("command")) if supervisor is not None else None

    @property
    def exit(self) -> Exit | None:
        """How the command ended; None when that is not recorded."""
        if not (text := self._text("exit")):
            return None
        kind, *numbers = text.split()
        if kind == "errno":
            return Exit(127, {"stdout": 0, "stderr": 0}, error_number=int(numbers[0]))
        code, stdout, out_lost, stderr, err_lost = map(int, numbers)
        lost: dict[Stream, int] = {"stdout": out_lost, "stderr": err_lost}
        return Exit(code, {"stdout": stdout, "stderr": stderr}, lost)

    @property
    def trouble(self) -> str:
        """What the supervisor failed with; empty when it told of nothing."""
        return self._text("trouble").strip()

    def read(self, stream: Stream, offset: int, limit: int) -> bytes:
        """Returns output from an offset on; empty when there is none yet."""
        number, position = divmod(offset, SEGMENT_BYTES)
        try:
            descriptor = os.open(self._segment(stream, number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(descriptor, min(limit, SEGMENT_BYTES - position), position)
        finally:
            os.close(descriptor)

    def holds(self, stream: Stream, offset: int) -> bool:
        """Whether the output at an offset has not been deleted."""
        return os.path.exists(self._segment(stream, offset // SEGMENT_BYTES))  # noqa: PTH110 - hot

    def forget(self, stream: Stream, before: int, now: int) -> None:
        """Deletes the files that end between two offsets."""
        for number in range(before // SEGMENT_BYTES, now // SEGMENT_BYTES):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._segment(stream, number))  # noqa: PTH108 - on the path of output

    def taken(self, stream: Stream) -> Taken:
        """Returns how far an agent had come; all zero when none began."""
        path = self.path / f"{stream}.taken"
        data = path.read_bytes() if path.exists() else b""
        return Taken(*_TAKEN.unpack(data)) if data else Taken(0, 0, 0, 0)

    def open_taken(self, stream: Stream) -> int:
        """Opens the file that ``note_taken`` writes."""
        path = self.path / f"{stream}.taken"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def remove(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _segment(self, stream: Stream, number: int) -> str:
        return f"{self.path}/{stream}.{number}"

    def _identity(self, name: str) -> ProcessId | None:
        numbers = [int(part) for part in self._text(name).split()]
        return ProcessId(*numbers) if numbers else None

    def _text(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""


def note_taken(descriptor: int, taken: Taken) -> None:
    """Remembers a move about to be made; survives this process, which is all it is for."""
    os.pwrite(descriptor, _TAKEN.pack(*taken), 0)


class RunFolders:
    """The folders of all runs of an agent."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, exist_ok=True)

    def of(self, attempt_id: str) -> RunFolder:
        """Returns the folder of an attempt, which need not exist."""
        return RunFolder(self._root / attempt_id)

    def keep(self, attempt_id: str, kept: bytes) -> RunFolder:
        """Makes a folder with what its end is to be judged by; raises OSError."""
        folder = self.of(attempt_id)
        folder.path.mkdir(mode=0o700, exist_ok=True)
        (folder.path / "kept").write_bytes(kept)
        # Written over in place later, so that a disk that is full by then does not matter.
        for stream in STREAMS:
            (folder.path / f"{stream}.taken").write_bytes(_TAKEN.pack(0, 0, 0, 0))
        return folder

    def kept(self, attempt_id: str) -> bytes:
        """Returns what was kept; raises OSError."""
        return (self.of(attempt_id).path / "kept").read_bytes()

    def remove(self, attempt_id: str) -> None:
        """Deletes a folder unless its command is still supervised."""
        folder = self.of(attempt_id)
        if folder.path.exists() and folder.is_over():
            folder.remove()

    def __iter__(self) -> Iterator[str]:
        """Yields the attempts that have a folder."""
        return iter(sorted(path.name for path in self._root.iterdir()))
