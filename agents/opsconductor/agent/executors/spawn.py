"""Starting a process with posix_spawn: no fork of a process that holds gRPC threads."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.environment import PATH
from opsconductor.agent.executors.pipes import Pipe

if TYPE_CHECKING:
    from collections.abc import Mapping

# Python ignores these; a child would inherit that and, for example, never notice a closed pipe.
RESTORED_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)
_HINTS = {
    errno.ENOEXEC: ("COMMAND_NOT_EXECUTABLE", "it is not a program the kernel can start"),
    errno.EACCES: ("COMMAND_NOT_EXECUTABLE", "the agent's user may not execute it"),
    errno.E2BIG: ("ARGUMENTS_TOO_LONG", "its arguments are longer than the kernel takes"),
    errno.ENOENT: ("COMMAND_NOT_FOUND", "its file or its interpreter does not exist"),
}


@dataclass(slots=True)
class Child:
    """A started process in its own session; ``pid`` is also its group and session."""

    pid: int
    handle: int
    """pidfd; readable when the process has ended."""
    stdout: Pipe
    stderr: Pipe
    reaped: bool = False

    def ended(self) -> asyncio.Future[None]:
        """Returns a future that is done when the process has ended; it is not reaped by that."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def resolve() -> None:
            loop.remove_reader(self.handle)
            if not future.done():
                future.set_result(None)

        loop.add_reader(self.handle, resolve)
        return future

    def wait(self) -> int:
        """Reaps the ended process and returns its exit code; 128 and the signal that ended it."""
        _, status = os.waitpid(self.pid, 0)
        self.reaped = True
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        """Closes every descriptor held for the process."""
        asyncio.get_running_loop().remove_reader(self.handle)
        os.close(self.handle)
        self.stdout.close()
        self.stderr.close()


def find_program(program: bytes) -> bytes:
    """Returns the path of a program; raises Refused when there is none."""
    name = program.decode()
    if "/" in name:
        if not name.startswith("/"):
            raise _refused("COMMAND_NOT_FOUND", name, "give an absolute path or a bare name")
        return program
    if found := shutil.which(name, path=PATH):
        return os.fsencode(found)
    hint = f"it is in none of {PATH}; install it there or give its absolute path"
    raise _refused("COMMAND_NOT_FOUND", name, hint)


def spawn(path: bytes, arguments: list[bytes], environment: Mapping[str, str]) -> Child:
    """Starts a program with /dev/null as its input and two pipes; raises Refused if it cannot."""
    (out_read, out_write), (err_read, err_write) = _pipes(path)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, out_write, 1),
        (os.POSIX_SPAWN_DUP2, err_write, 2),
        *((os.POSIX_SPAWN_CLOSE, number) for number in inheritable()),
    ]
    try:
        pid = os.posix_spawn(
            path,
            arguments,
            environment,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=RESTORED_SIGNALS,
        )
    except OSError as error:
        os.close(out_read)
        os.close(err_read)
        raise refusal(path, error) from error
    finally:
        os.close(out_write)
        os.close(err_write)
    return Child(pid, _handle(pid), Pipe(out_read), Pipe(err_read))


def _pipes(path: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
    opened: list[tuple[int, int]] = []
    try:
        opened.append(os.pipe())
        opened.append(os.pipe())
    except OSError as error:
        for pair in opened:
            os.close(pair[0])
            os.close(pair[1])
        raise refusal(path, error) from error
    return opened[0], opened[1]


def _handle(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        # What cannot be watched must not run on.
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def inheritable() -> list[int]:
    """Returns descriptors a library left open to children; Python's own never are."""
    entries = os.listdir("/proc/self/fd")  # noqa: PTH208 - on the path of every spawn
    found = []
    for number in map(int, entries):
        try:
            if number > 2 and os.get_inheritable(number):
                found.append(number)
        except OSError:  # the one that listed the folder
            continue
    return found


def refusal(path: bytes, error: OSError) -> Refused:
    """Returns why a program could not be started, with what to do."""
    code, hint = _HINTS.get(error.errno or 0, ("SPAWN_FAILED", os.strerror(error.errno or 0)))
    return _refused(code, os.fsdecode(path), hint)


def _refused(code: str, program: str, hint: str) -> Refused:
    return Refused(Outcome.refused(code, f"cannot start {program} on the agent's host: {hint}"))
