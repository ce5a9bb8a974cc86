"""opsctl as a process: signals, broken pipes, narrow terminals, prompts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Any

import pytest

from helpers.scripted_orchestrator import APPROVAL, EXECUTION, RUNNING
from opsconductor.v1 import execution_service_pb2 as executions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helpers.opsctl import Opsctl
    from helpers.scripted_orchestrator import Script
    from opsconductor.v1.tool_service_pb2 import Tool

    Spawn = Callable[..., subprocess.Popen[bytes]]


# The scripted server has no TLS: opsctl runs with an ordinary channel instead.
_WITHOUT_TLS = """
import sys, grpc
import opsconductor.client.sync_client as client
client.open_channel = lambda endpoint, tls, **_: grpc.insecure_channel(endpoint)
from opsconductor.cli.main import main
main()
"""
_SECONDS = 30


@pytest.fixture
def spawn(opsctl: Opsctl) -> Any:
    started = []

    def spawn(*arguments: Any, **options: Any) -> Any:
        process = subprocess.Popen(
            [sys.executable, "-c", _WITHOUT_TLS, *arguments],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )
        started.append(process)
        return process

    yield spawn
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


class _Pty:
    """A terminal of a given width that a process thinks a person sits at."""

    def __init__(self, columns: int) -> None:
        self._master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.seen = b""

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def wait_for(self, text: bytes) -> None:
        deadline = time.monotonic() + _SECONDS
        while text not in self.seen:
            self.read(deadline)
            assert time.monotonic() < deadline, self.seen

    def read_to_end(self, process: subprocess.Popen[bytes]) -> bytes:
        deadline = time.monotonic() + _SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            self.read(time.monotonic() + 0.1)
        self.read(time.monotonic() + 0.1)
        return self.seen

    def read(self, deadline: float) -> None:
        ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
        if ready:
            with contextlib.suppress(OSError):
                self.seen += os.read(self._master, 65536)

    def close(self) -> None:
        os.close(self._master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[Callable[..., _Pty]]:
    opened = []

    def open_terminal(columns: int = 100) -> _Pty:
        opened.append(_Pty(columns))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_detaches_and_says_how_to_watch_and_cancel(
    spawn: Spawn, script: Script, number: signal.Signals, code: int
) -> None:
    script.happened(RUNNING)
    script.hold = True
    process = spawn("run", "-f", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"steps: []")
    process.stdin.close()
    process.stdin = None
    lines = iter(process.stdout.readline, b"")
    assert any(b"one: runs on local" in line for line in lines)
    process.send_signal(number)
    _, errors = process.communicate(timeout=_SECONDS)
    assert process.returncode == code
    assert f"opsctl runs cancel {EXECUTION}".encode() in errors
    assert b"Traceback" not in errors


def test_a_reader_that_goes_away_is_no_error(spawn: Spawn, script: Script) -> None:
    for number in range(2000):
        script.pieces.append(
            executions.ReadOutputResponse(
                step_id="one", stream=executions.OUTPUT_STREAM_STDOUT, data=b"%d\n" % number * 200
            )
        )
    process = spawn("runs", "tail", EXECUTION)
    assert process.stdout is not None
    assert process.stdout.readline() == b"one | 0\n"
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=_SECONDS)
    assert errors == b""
    assert process.returncode == 141


@pytest.mark.parametrize("columns", [20, 80])
@pytest.mark.parametrize("colour", [True, False])
def test_the_live_view_works_on_any_terminal(
    spawn: Spawn, script: Script, terminal: Callable[..., _Pty], columns: int, colour: bool
) -> None:
    script.happened(RUNNING, progress=10)
    script.happened((executions.EXECUTION_STATE_COMPLETED, executions.STEP_STATE_COMPLETED))
    script.pieces.append(
        executions.ReadOutputResponse(
            step_id="one",
            stream=executions.OUTPUT_STREAM_STDOUT,
            data=b"from \x1b]0;the\x07 target\n",
        )
    )
    script.tools.append(_ping())
    tty = terminal(columns)
    environment = {**os.environ, "TERM": "xterm-256color"}
    if not colour:
        environment["NO_COLOR"] = "1"
    process = spawn(
        "run", "ping", stdin=tty.slave, stdout=tty.slave, stderr=tty.slave, env=environment
    )
    seen = tty.read_to_end(process)
    assert process.returncode == 0, seen
    assert b"Traceback" not in seen
    assert b"\x1b]0;" not in seen
    assert b"\\u001b]0;the\\u0007 target" in seen.replace(b"\r\n", b"")
    assert (b"\x1b[32m" in seen) is colour


@pytest.mark.parametrize(
    ("answer", "code", "kinds"), [(b"y\n", 0, [1]), (b"n\n", 3, [2]), (b"\n", 3, [2])]
)
def test_a_person_at_a_terminal_is_shown_the_steps_and_asked(
    spawn: Spawn,
    script: Script,
    terminal: Callable[..., _Pty],
    answer: bytes,
    code: int,
    kinds: list[int],
) -> None:
    script.tools.append(_ping())
    script.asks_for_approval()
    tty = terminal()
    process = spawn("run", "ping", stdin=tty.slave, stdout=tty.slave, stderr=tty.slave)
    tty.wait_for(b"[y/N]")
    assert b"x --go" in tty.seen
    assert b"x a=1" in tty.seen
    tty.type(answer)
    seen = tty.read_to_end(process)
    assert process.returncode == code, seen
    assert [decision.kind for decision in script.decisions] == kinds


def test_nobody_is_asked_outside_an_embedded_context(
    spawn: Spawn, opsctl: Opsctl, script: Script, terminal: Callable[..., _Pty]
) -> None:
    opsctl.set_context(embedded=False)
    script.tools.append(_ping())
    script.asks_for_approval()
    tty = terminal()
    process = spawn("run", "ping", stdin=tty.slave, stdout=tty.slave, stderr=tty.slave)
    seen = tty.read_to_end(process)
    assert process.returncode == 8
    assert f"opsctl approvals approve {APPROVAL}".encode() in seen
    assert script.decisions == []


def _ping() -> Tool:
    from opsconductor.v1.tool_service_pb2 import Tool

    tool = Tool(name="ping")
    tool.parameters.update({"properties": {}})
    return tool


@pytest.mark.parametrize(("answer", "code", "sent"), [(b"y\n", 0, True), (b"n\n", 1, False)])
def test_a_person_is_asked_before_an_unknown_outcome_is_decided(
    spawn: Spawn,
    script: Script,
    terminal: Callable[..., _Pty],
    answer: bytes,
    code: int,
    sent: bool,
) -> None:
    script.execution.steps[0].state = executions.STEP_STATE_UNKNOWN
    script.execution.steps[0].attempts.add(
        attempt_id="att_1", kind="forward", number=1, state=executions.ATTEMPT_STATE_UNKNOWN
    )
    tty = terminal()
    words = ("runs", "resolve", EXECUTION, "one", "--as", "completed", "--reason", "saw it")
    process = spawn(*words, stdin=tty.slave, stdout=tty.slave, stderr=tty.slave)
    tty.wait_for(b"[y/N]")
    assert b"att_1" in tty.seen
    tty.type(answer)
    tty.read_to_end(process)
    assert process.returncode == code
    asked = [call for call in script.calls if isinstance(call, executions.ResolveUnknownRequest)]
    assert bool(asked) is sent


def test_what_is_said_while_a_person_is_asked_stays_on_the_terminal(
    spawn: Spawn, script: Script, terminal: Callable[..., _Pty]
) -> None:
    script.tools.append(_ping())
    script.asks_for_approval()
    tty = terminal()
    process = spawn("run", "ping", stdin=tty.slave, stdout=tty.slave, stderr=tty.slave)
    tty.wait_for(b"[y/N]")
    tty.type(b"y\n")
    tty.read_to_end(process)
    _, _, after = tty.seen.partition(b"signed as alice")
    until_the_steps_are_back, _, _ = after.partition("━".encode())
    assert b"\x1b[1A" not in until_the_steps_are_back, "the cursor goes up and wipes the line"
