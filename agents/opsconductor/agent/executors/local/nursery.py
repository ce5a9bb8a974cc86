"""Where supervisors come from: one small process that forks them, because the agent may not fork.

Forking it takes a millisecond, starting an interpreter for each command ten. It ends with the
agent; supervisors do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from opsconductor.agent.executors.environment import PATH
from opsconductor.agent.executors.local import supervisor
from opsconductor.agent.executors.spawn import RESTORED_SIGNALS, inheritable

if TYPE_CHECKING:
    from pathlib import Path

_INHERITED = frozenset(
    {"OPSCONDUCTOR_FAILPOINTS", "OPSCONDUCTOR_FAILPOINT", "OPSCONDUCTOR_FAILPOINT_LOG"}
)
_ENDS_WITHIN = 5.0


class Nursery:
    """The process that forks supervisors, started when the first one is needed."""

    def __init__(self) -> None:
        self._requests: socket.socket | None = None
        self._pid = 0

    def warm(self) -> None:
        """Starts the process if it does not run yet; does not wait for it."""
        if self._requests is None:
            self._start()

    def launch(self, folder: Path, lock: int) -> int:
        """Has a folder supervised; the lock travels along. Raises OSError when that cannot be.

        Does not wait: whether it is done stands in the folder. Returns which process was asked.
        """
        message = [os.fsencode(folder)]
        try:
            socket.send_fds(self._requests or self._start(), message, [lock])
        except (BrokenPipeError, ConnectionResetError):
            # It was killed; what could not be sent was not begun.
            self._forget()
            socket.send_fds(self._start(), message, [lock])
        return self._pid

    def abandon(self, pid: int) -> None:
        """Ends a process that does not do what it was asked, unless another took its place."""
        if self._requests is None or pid != self._pid:
            return
        if not _is_reaped(pid):
            os.kill(pid, signal.SIGKILL)
        self._forget()

    async def close(self) -> None:
        """Lets the process end; its supervisors go on."""
        pid = self._pid
        if self._requests is None:
            return
        self._requests.close()
        self._requests = None
        try:
            async with asyncio.timeout(_ENDS_WITHIN):
                while not _is_reaped(pid):  # noqa: ASYNC110 - it ends within milliseconds
                    await asyncio.sleep(0.002)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)

    def _start(self) -> socket.socket:
        variables = {name: os.environ[name] for name in _INHERITED & os.environ.keys()}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-E", supervisor.__file__],
                {"PATH": PATH, **variables},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                    *((os.POSIX_SPAWN_CLOSE, number) for number in inheritable()),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=RESTORED_SIGNALS,
            )
        # Full only when it does not read; the agent must not stand still with it.
        ours.setblocking(False)  # noqa: FBT003 - not ours
        self._requests = ours
        return ours

    def _forget(self) -> None:
        if self._requests is not None:
            self._requests.close()
        self._requests = None
        _is_reaped(self._pid)


def _is_reaped(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return True
