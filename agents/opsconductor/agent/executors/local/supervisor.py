"""Runs commands so that they outlive the agent; stands alone and imports nothing of it.

The agent starts this file with a socket as its input (``nursery.py``). For each message, the path
of a run folder and the open, locked lock file, it forks a supervisor in a session of its own. That
one holds the lock for as long as it lives, starts the command, keeps its output, and records how it
ended. What stands in the folder is described in ``run_folder.py``.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import select
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

SEGMENT_BYTES = 1024 * 1024
"""Output is kept in files of this size, numbered from 0; their reader deletes them."""
SEGMENTS = 4
"""Most files of a stream before its command has to wait for the reader."""
STREAMS = ("stdout", "stderr")

_CHUNK = 64 * 1024
_PIPE_BYTES = 64 * 1024
_RECORD_BYTES = 256
_STALLED_MS = 20
_IDLE_MS = 30_000
# Joining a control group takes the kernel ten milliseconds, which short commands are spared.
_GROUPED_AFTER = 0.05
_GROUPED_MS = 55
_SUBREAPER = 36  # prctl(2)
_libc = ctypes.CDLL(None)


class Failpoints:
    """Crash points, armed as those of the agent (``rpc/failpoints.py``); counted over all runs."""

    def __init__(self, run: int) -> None:
        settings = os.environ.get("OPSCONDUCTOR_FAILPOINT", "")
        armed = os.environ.get("OPSCONDUCTOR_FAILPOINTS") == "1"
        parts = [setting.split(":") for setting in settings.split(",")] if armed else []
        self._actions = {
            name: action for name, action, *nth in parts if int((nth or ["1"])[0]) == run
        }

    def hit(self, name: str) -> None:
        """Marks a place where a test may end this process."""
        action = self._actions.get(name, "")
        if action and (log := os.environ.get("OPSCONDUCTOR_FAILPOINT_LOG")):
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.write(descriptor, f"{name}:{action}\n".encode())
            os.close(descriptor)
        match action:
            case "kill9":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "raise":
                raise RuntimeError(f"failpoint {name}")


class Output:
    """One pipe of the command, carried into files as fast as they are read and deleted."""

    def __init__(self, folder: str, name: str, source: int) -> None:
        self.source = source
        self.ended = False
        self.written = 0
        self.lost = 0
        """Bytes the disk did not take."""
        self._prefix = f"{folder}/{name}."
        self._file = -1
        os.set_blocking(source, False)

    @property
    def stalled(self) -> bool:
        """Whether the reader has to delete a file first."""
        oldest = self.written // SEGMENT_BYTES - SEGMENTS
        return oldest >= 0 and os.path.exists(f"{self._prefix}{oldest}")  # noqa: PTH110

    def carry(self, limit: int = _CHUNK) -> int:
        """Moves what is there, up to a limit; returns how much that was."""
        try:
            data = os.read(self.source, limit)
        except BlockingIOError:
            return 0
        self.ended = not data
        self._store(memoryview(data))
        return len(data)

    def carry_rest(self) -> None:
        """Takes what was in the pipe when this was called, whoever still holds its other end."""
        left = _PIPE_BYTES
        while left > 0 and not self.ended and (moved := self.carry(left)):
            left -= moved

    def _store(self, data: memoryview) -> None:
        # After a loss nothing more is kept: it would not follow what came before.
        while data and not self.lost:
            number, position = divmod(self.written, SEGMENT_BYTES)
            try:
                if position == 0:
                    self._open(number)
                done = os.write(self._file, data[: SEGMENT_BYTES - position])
            except OSError:
                break
            self.written += done
            data = data[done:]
        self.lost += len(data)

    def _open(self, number: int) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._file = os.open(f"{self._prefix}{number}", flags, 0o600)


class Supervisor:
    """One command and its folder."""

    def __init__(self, folder: str, points: Failpoints) -> None:
        self._folder = folder
        self._points = points

    def run(self) -> None:
        """Starts the command and stays until its end is recorded."""
        self._points.hit("shim.after_lock")
        # Whatever the command leaves behind becomes a child of this process, where it is found.
        _libc.prctl(_SUBREAPER, 1, 0, 0, 0)
        program, cgroup, linger, _, start_by, count, *rest = self._read("start").split(b"\0")
        arguments, variables = rest[: int(count)], rest[int(count) :]
        environment = dict(item.split(b"=", 1) for item in variables)
        self._news = os.open(f"{self._folder}/news", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        # Room for the record of the end, also on a disk that is full by then.
        self._write("exit.new", "")
        # Without this record nothing has begun.
        self._record("record", _identity(os.getpid()), durably=False)
        # Only now: an agent that sees no record by then may rely on it that nothing begins.
        if time.clock_gettime(time.CLOCK_BOOTTIME) > float(start_by):
            self._record("exit", f"errno {errno.ETIMEDOUT}")
            self._tell()
            return
        self._points.hit("shim.record.after_rename_before_release")
        try:
            pid, pipes = spawn(program, arguments, environment)
        except OSError as error:
            self._record("exit", f"errno {error.errno}")
            self._tell()
            return
        self._points.hit("shim.after_fork_before_record")
        self._record("command", _identity(pid), durably=False)
        outputs = [
            Output(self._folder, name, pipe) for name, pipe in zip(STREAMS, pipes, strict=True)
        ]
        code = self._follow(pid, outputs, cgroup, float(linger))
        self._points.hit("shim.wait.before_exit_record")
        lengths = [f"{item.written} {item.lost}" for item in outputs]
        self._record("exit", " ".join([f"code {code}", *lengths]))
        self._tell()

    def _follow(self, pid: int, outputs: list[Output], cgroup: bytes, linger: float) -> int:
        """Carries output until the command has ended; returns its exit code."""
        handle = os.pidfd_open(pid)
        group_at = time.monotonic() + _GROUPED_AFTER
        while not self._carry(outputs, handle, _IDLE_MS if not cgroup else _GROUPED_MS):
            _reap_orphans(pid)
            if cgroup and time.monotonic() >= group_at:
                _join(cgroup, pid)
                cgroup = b""
        deadline = time.monotonic() + linger
        while not all(item.ended for item in outputs):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._carry(outputs, -1, int(left * 1000) + 1)
        for item in outputs:
            item.carry_rest()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return code if code >= 0 else 128 - code

    def _carry(self, outputs: list[Output], handle: int, wait: int) -> bool:
        """Waits for output and moves it; returns whether the handle's process has ended."""
        poller = select.poll()
        if handle >= 0:
            poller.register(handle, select.POLLIN)
        stalled = False
        for item in outputs:
            if item.ended:
                continue
            if item.stalled:
                stalled = True
            else:
                poller.register(item.source, select.POLLIN)
        ready = {number for number, _ in poller.poll(min(wait, _STALLED_MS) if stalled else wait)}
        if sum(item.carry() for item in outputs if item.source in ready):
            self._tell()
        return handle in ready

    def _record(self, name: str, text: str, *, durably: bool = True) -> None:
        """Puts a file there in one step: whole or not at all."""
        self._write(f"{name}.new", text, durably=durably)
        self._points.hit("shim.record.before_rename")
        os.rename(f"{self._folder}/{name}.new", f"{self._folder}/{name}")  # noqa: PTH104
        if durably:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            os.fsync(descriptor)
            os.close(descriptor)

    def _write(self, name: str, text: str, *, durably: bool = False) -> None:
        """Writes a file of one size: to write it over needs no more room."""
        path = f"{self._folder}/{name}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(descriptor, text.ljust(_RECORD_BYTES - 1).encode() + b"\n")
        if durably:
            os.fsync(descriptor)
        os.close(descriptor)

    def _read(self, name: str) -> bytes:
        descriptor = os.open(f"{self._folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            return file.readall()

    def _tell(self) -> None:
        """Wakes the agent, if there is one."""
        with suppress(BlockingIOError):
            os.write(self._news, b".")


def spawn(
    program: bytes, arguments: list[bytes], environment: dict[bytes, bytes]
) -> tuple[int, tuple[int, int]]:
    """Starts a program in a session of its own; returns it and its two pipes. Raises OSError."""
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    pid = os.posix_spawn(
        program,
        arguments,
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, out_end, 1), (os.POSIX_SPAWN_DUP2, err_end, 2)],
        setsid=True,
        setsigmask=(),
        # Python ignores these; the command would inherit that.
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )
    os.close(out_end)
    os.close(err_end)
    return pid, (out, err)


def _identity(pid: int) -> str:
    """Returns a process id and when the process began, in clock ticks after boot."""
    descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    line = os.read(descriptor, 4096)
    os.close(descriptor)
    return f"{pid} {line.rpartition(b')')[2].split()[19].decode()}"


def _join(cgroup: bytes, pid: int) -> None:
    """Puts a process into a new control group; it is also found without one."""
    with suppress(OSError):
        os.mkdir(cgroup)  # noqa: PTH102 - as everywhere here: fewer pages to copy after the fork
        descriptor = os.open(cgroup + b"/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        os.write(descriptor, b"%d" % pid)
        os.close(descriptor)


def _reap_orphans(root: int) -> None:
    """Collects dead children, except the command itself."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while (end := os.waitid(os.P_ALL, 0, options)) is not None and end.si_pid != root:
        os.waitpid(end.si_pid, 0)


def _supervise(folder: str, run: int) -> None:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    descriptor = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(descriptor, number)
        os.set_inheritable(number, True)  # noqa: FBT003 - not ours
    try:
        Supervisor(folder, Failpoints(run)).run()
    except BaseException as error:  # noqa: BLE001 - nobody else can tell of it
        Path(folder, "trouble").write_text(f"{type(error).__name__}: {error}\n", encoding="utf-8")


def main() -> None:
    """Forks a supervisor for each message, until the agent is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    requests = socket.socket(fileno=0)
    run = 0
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, 8 * 1024, 1)
        if not data:
            return
        run += 1
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - not ours
        with suppress(OSError):
            if os.fork() == 0:
                requests.close()
                try:
                    _supervise(os.fsdecode(data), run)
                finally:
                    os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    main()
