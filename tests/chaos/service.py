"""One process of the product: started, frozen, killed, and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from chaos.tools import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MARKER = b"OPSCONDUCTOR_ATTEMPT="


@dataclass
class Service:
    """A command that is run over and over in the same folder."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    log: Path
    fired: Path
    """Where failpoints note that they acted."""
    process: subprocess.Popen[bytes] | None = None
    armed: str = ""
    acted: set[str] = field(default_factory=set)
    """Settings that have acted in earlier processes."""
    over: bool = False
    """Whether it may not be started any more: whoever ends its world does so once."""

    def start(self, armed: str = "", **variables: str) -> None:
        """Starts it, with a failpoint armed or not; does not wait until it is ready."""
        if self.over:
            raise RuntimeError(f"{self.name}: its world has ended")
        if self.has_fired:
            self.acted.add(self.armed)
        self.armed = armed
        self.fired.unlink(missing_ok=True)
        extra = dict(variables)
        if armed:
            extra |= {"OPSCONDUCTOR_FAILPOINTS": "1", "OPSCONDUCTOR_FAILPOINT": armed}
            extra["OPSCONDUCTOR_FAILPOINT_LOG"] = str(self.fired)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command),
                env={**self.environment, **extra},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process; 0 when it does not run."""
        return self.process.pid if self.process and self.process.poll() is None else 0

    @property
    def alive(self) -> bool:
        """Whether it runs, frozen or not."""
        return self.pid != 0

    @property
    def frozen(self) -> bool:
        """Whether it is stopped by a signal."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return bool(self.pid) and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        return False

    @property
    def has_fired(self) -> bool:
        """Whether its failpoint has acted."""
        return self.fired.exists()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process alone."""
        if pid := self.pid:
            os.kill(pid, number)

    def kill9(self) -> None:
        """Ends the process, and only it, with SIGKILL."""
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait(20)

    def kill_with_kin(self) -> None:
        """Ends the process and everything it started, in one moment, as a power loss does."""
        doomed = {self.pid, *self.kin_now()} - {0}
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process:
            self.process.wait(20)

    def kin_now(self) -> set[int]:
        """Returns the processes below this one."""
        if not self.pid:
            return set()
        with contextlib.suppress(psutil.NoSuchProcess):
            return {child.pid for child in psutil.Process(self.pid).children(recursive=True)}
        return set()

    def stop(self, seconds: float = 15) -> None:
        """Asks it to end; kills it when it does not."""
        if not self.process:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill9()

    def rss(self) -> int:
        """Resident memory in bytes; 0 when it does not run."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return int(psutil.Process(self.pid).memory_info().rss) if self.pid else 0
        return 0


def step_processes(ledger: Path) -> dict[int, str]:
    """Returns the live processes that steps of one run consist of, and their attempts."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = process.cmdline()
            if words[3:5] != [str(PROGRAM), str(ledger)]:
                continue
            environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            attempt = [word for word in environment if word.startswith(MARKER)]
            if attempt and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = attempt[0].removeprefix(MARKER).decode()
    return found


def wait_until(true: Callable[[], object], seconds: float) -> bool:
    """Waits for a condition; tells whether it came true."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def free_port() -> int:
    """Returns a port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
