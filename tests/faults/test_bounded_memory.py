"""Nobody's appetite grows the orchestrator: a firehose of output, and watchers that never read."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.stack import Stack, wait_until
from opsconductor.client.sync_client import SyncClient

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
PRODUCED = 200 * MIB
GROWTH = 96 * MIB
"""Far less than what is produced, and than what watchers do not read."""
WATCHERS = 100


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path)
    try:
        yield made
    finally:
        made.down()


def _resident(stack: Stack) -> int:
    pid = stack.embedded.orchestrator.find()
    with Path(f"/proc/{pid}/status").open(encoding="ascii") as lines:
        (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def _run(stack: Stack, argv: list[str]) -> str:
    plan = {"name": "firehose", "steps": [{"id": "a", "tool": "run_command", "undo": "none"}]}
    plan["steps"][0]["inputs"] = {"argv": argv}  # type: ignore[index]
    words = ("run", "-f", stack.plan(plan), "--yes", "--detach", "-o", "json")
    answer = stack.opsctl(*words)
    assert answer.code == 0, answer.err
    return str(answer.json["execution_id"])


@pytest.mark.parametrize(
    "command",
    [f"yes | head -c {PRODUCED}", f"head -c {PRODUCED} /dev/zero | tr '\\0' x"],
    ids=["many lines", "one line"],
)
def test_a_firehose_and_a_hundred_watchers_that_do_not_read_cost_no_memory(
    stack: Stack, command: str
) -> None:
    stack.up()
    execution_id = _run(stack, ["true"])
    stack.wait_for(execution_id)
    before = _resident(stack)
    execution_id = _run(stack, ["sh", "-c", command])
    peak = before
    with ExitStack() as watchers:
        streams: list[Iterator[Any]] = []
        client = watchers.enter_context(SyncClient(stack.context))
        for _ in range(WATCHERS):
            streams += [
                iter(client.read_output(execution_id, follow=True)),
                iter(client.watch(execution_id)),
            ]
        for stream in streams:
            next(stream)  # it is open, and from here on nobody reads it

        def ended() -> bool:
            nonlocal peak
            peak = max(peak, _resident(stack))
            return stack.status(execution_id) == "completed"

        wait_until(ended, "the firehose has ended", 240)
        peak = max(peak, _resident(stack))
    assert peak - before < GROWTH, f"{(peak - before) / MIB:.0f} MiB"
