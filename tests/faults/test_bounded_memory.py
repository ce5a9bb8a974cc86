"""Nobody's appetite grows a process: a firehose of output, and watchers that read late or never.

OPSCONDUCTOR_TEST_FIREHOSE_MIB sets how much is produced; 10240 is what was promised.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.embedded_context import OPSCTL
from helpers.plans import look
from helpers.stack import SECONDS, Stack
from opsconductor.client.sync_client import SyncClient
from opsconductor.client.words import execution_word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opsconductor.v1.execution_service_pb2 import ReadOutputResponse

MIB = 1024 * 1024
PRODUCED = int(os.environ.get("OPSCONDUCTOR_TEST_FIREHOSE_MIB", "200")) * MIB
GROWTH = 96 * MIB
"""Far less than what is produced, and than what watchers do not read."""
WATCHERS = 100
KEPT = 16 * MIB


class Memory:
    """What processes take at most, seen from when this began."""

    def __init__(self, **pids: int | None) -> None:
        self._pids = {name: pid for name, pid in pids.items() if pid}
        self._before = {name: _resident(pid) for name, pid in self._pids.items()}
        self._most = dict(self._before)

    def look(self) -> None:
        for name, pid in self._pids.items():
            self._most[name] = max(self._most[name], _resident(pid))

    def check(self) -> None:
        grown = {name: most - self._before[name] for name, most in self._most.items()}
        told = {name: f"{size / MIB:.0f} MiB" for name, size in grown.items()}
        assert max(grown.values()) < GROWTH, told


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024


def _processes(stack: Stack) -> dict[str, int | None]:
    agent = stack.embedded.agent.find()
    assert agent is not None
    found = {"orchestrator": stack.embedded.orchestrator.find(), "agent": agent}
    for number, child in enumerate(_children(agent)):
        found[f"nursery {number}"] = child
    return found


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _run(stack: Stack, *argv: str) -> str:
    step = {"id": "a", "tool": "run_command", "inputs": {"argv": argv}, "undo": "none"}
    return stack.submit({"name": "firehose", "steps": [{**step, "timeout": "2h"}]})


def _small_read(client: SyncClient) -> str:
    plan = json.dumps({"name": "small", "steps": [look("s")]})
    execution_id = client.submit(plan).execution.execution_id
    list(client.watch(execution_id))
    return execution_word(client.get(execution_id).state)


def _ended(client: SyncClient, execution_id: str) -> bool:
    return client.get(execution_id).HasField("end_time")


@pytest.mark.parametrize(
    "command",
    [f"yes {'y' * 63} | head -c {PRODUCED}", f"head -c {PRODUCED} /dev/zero | tr '\\0' x"],
    ids=["many lines", "one line"],
)
def test_a_firehose_and_a_hundred_watchers_that_do_not_read_cost_no_memory(
    stack: Stack, command: str
) -> None:
    stack.up()
    stack.wait_for(_run(stack, "true"))
    tail, go = stack.folder / "tail", stack.folder / "go"
    wait = f"echo ready; until [ -e {go} ]; do sleep 0.05; done"
    execution_id = _run(stack, "sh", "-c", f"{wait}; {command}")
    with ExitStack() as watchers, tail.open("wb") as file:
        streams: list[Iterator[Any]] = []
        client = watchers.enter_context(SyncClient(stack.context))
        reader = watchers.enter_context(
            subprocess.Popen(
                [OPSCTL, "runs", "tail", execution_id, "--raw", "--follow"],
                env=stack.environment(),
                stdout=file,
            )
        )
        for _ in range(WATCHERS):
            streams += [
                iter(client.read_output(execution_id, follow=True)),
                iter(client.watch(execution_id)),
            ]
        for stream in streams:
            next(stream)  # it is open, and from here on nobody reads it
        memory, served = Memory(reader=reader.pid, **_processes(stack)), 0
        go.touch()
        while not _ended(client, execution_id):
            served += _small_read(client) == "completed"
            memory.look()
        assert reader.wait(SECONDS) == 0
        memory.look()
    memory.check()
    assert served, "nobody else was served meanwhile"
    _check_told(stack, execution_id, tail.read_bytes())


def _check_told(stack: Stack, execution_id: str, kept: bytes) -> None:
    """Checks that people and programs are told where what is missing is missing."""
    result = stack.json("runs", "get", execution_id)
    assert result["status"] == "completed"
    (gap,) = result["step_results"][0]["output_gaps"]
    note = f"\n[… {gap['bytes']} bytes left out …]\n".encode()
    assert kept[gap["offset"] :].startswith(note)
    assert len(kept) <= KEPT
    assert len(kept) - len(note) + gap["bytes"] == len(b"ready\n") + PRODUCED
    told = stack.opsctl("runs", "get", execution_id).out
    assert f"stdout: {gap['bytes']} bytes left out after the first {gap['offset']}\n" in told
    assert f"[… {gap['bytes']} bytes left out …]" in stack.opsctl("runs", "tail", execution_id).out


def test_a_hundred_slow_readers_and_one_that_never_reads_hold_nobody_up(stack: Stack) -> None:
    stack.up()
    execution_id = _run(stack, "sh", "-c", f"yes | head -c {2 * MIB}")
    with ExitStack() as watchers:
        client = watchers.enter_context(SyncClient(stack.context))
        never = iter(client.read_output(execution_id, follow=True))
        next(never)
        slow = [Slow(client, execution_id) for _ in range(WATCHERS)]
        memory = Memory(**_processes(stack))
        for reader in slow:
            reader.read(1)
        quick = Slow(client, execution_id)
        quick.read()
        stack.wait_for(execution_id, "completed")
        stack.wait_for(_run(stack, "true"), "completed")
        memory.look()
        assert not any(reader.ended for reader in slow), "they are behind, and stay so"
        for number in range(1, 200):
            for reader in slow:
                reader.read(1 + number // 100)
            memory.look()
    memory.check()
    truth = b"y\n" * MIB
    assert quick.text == truth
    assert all(reader.ended and reader.text == truth for reader in slow)


class Slow:
    """Reads a few pieces now and then."""

    def __init__(self, client: SyncClient, execution_id: str) -> None:
        self._pieces = iter(client.read_output(execution_id, follow=True))
        self._text: list[ReadOutputResponse] = []
        self.ended = False

    def read(self, count: int | None = None) -> None:
        """Reads so many pieces, or all."""
        while not self.ended and count != 0:
            piece = next(self._pieces, None)
            self.ended = piece is None
            if piece is not None:
                self._text.append(piece)
            count = None if count is None else count - 1

    @property
    def text(self) -> bytes:
        """What it has read."""
        return b"".join(piece.data for piece in self._text)
