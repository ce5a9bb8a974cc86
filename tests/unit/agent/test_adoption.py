"""A restarted agent takes up commands it began: with real commands under real supervisors."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import signal
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.agents import Agent
from helpers.orders import CHANGES, Orchestrator, Person, body_of, call_of, make_tool
from helpers.places import marked_processes, until
from opsconductor.agent.executors.local.executor import LocalExecutor
from opsconductor.agent.executors.local.run_folder import RunFolders
from opsconductor.tool_registry.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from opsconductor.agent.order import Order
    from opsconductor.agent.report import Report

ALICE = Person.new("alice")
_WORD = {"type": "string", "maxLength": 2000}
_PARAMETERS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["word"],
    "properties": {"word": _WORD},
}
SHELL = make_tool(
    "shell", annotations=CHANGES, parameters=_PARAMETERS, command={"argv": ["sh", "-c", "{word}"]}
)
LOOK = make_tool("look", parameters=_PARAMETERS, command={"argv": ["sh", "-c", "{word}"]})


class Life:
    """An agent folder, and the agent processes that live in it one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.agents: list[Agent] = []

    def start(self, **options: Any) -> Agent:
        """Starts an agent over what is there."""
        short = timedelta(seconds=1)
        options = {"tools": (SHELL, LOOK), **options}
        executor = LocalExecutor(grace=short, linger=timedelta(seconds=0.3))
        self.agents.append(Agent(self.folder, ALICE, real=executor, **options))
        return self.agents[-1]

    async def kill(self) -> None:
        """Ends the newest agent where it stands, as kill -9 does: nothing is written any more."""
        agent = self.agents.pop()
        work = list(agent.worker._work.values())
        for task in work:
            task.cancel()
        for task in work:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert agent.real is not None
        await agent.real.close()
        agent.close()


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    made = Life(tmp_path / "agent")
    made.folder.mkdir()
    yield made
    while made.agents:
        await made.kill()
    for attempt_id in RunFolders(made.folder / "runs"):
        for pid in marked_processes(attempt_id):
            os.kill(pid, signal.SIGKILL)


def order_to(script: str, **changes: Any) -> Order:
    body = body_of(SHELL, **{"inputs": {"word": script}, **changes})
    return Orchestrator(f"exec_{secrets.token_hex(8)}", people=(ALICE,)).order(body)


async def begun(life: Life, order: Order, **options: Any) -> Agent:
    """Returns an agent whose command runs and is known to be let go."""
    agent = life.start(**options)
    agent.worker.assign(order)
    folder = RunFolders(life.folder / "runs").of(order.attempt_id)
    await until(lambda: folder.pids is not None and folder.pids.command is not None)
    return agent


def code(report: Report) -> str:
    return report.error.code if report.error else ""


async def test_a_command_goes_on_without_its_agent_and_ends_as_if_nothing_had_been(
    life: Life, tmp_path: Path
) -> None:
    go, ledger = tmp_path / "go", tmp_path / "ledger"
    script = (
        f"echo start >>{ledger}; until [ -e {go} ]; do sleep 0.02; done; echo end | tee -a {ledger}"
    )
    order = order_to(script, success='output.text == "end\\n"')
    await begun(life, order)
    await life.kill()
    assert marked_processes(order.attempt_id)
    agent = life.start()
    (report,) = agent.worker.reports()
    assert report.state == "running"
    go.touch()
    report = await agent.final(order.attempt_id)
    assert (report.state, report.effects, report.exit_code) == ("completed", "done", 0)
    assert json.loads(report.output)["text"] == "end\n"
    assert report.stdout_sha256 == hashlib.sha256(b"end\n").hexdigest()
    assert ledger.read_text() == "start\nend\n"


async def test_a_command_that_ended_meanwhile_is_judged_and_verified(
    life: Life, tmp_path: Path
) -> None:
    marker = tmp_path / "verified"
    check = call_of(LOOK, inputs={"word": f"touch {marker}"})
    go = tmp_path / "go"
    order = order_to(f"until [ -e {go} ]; do sleep 0.02; done; exit 4", verify=check)
    await begun(life, order)
    await life.kill()
    go.touch()
    folder = RunFolders(life.folder / "runs").of(order.attempt_id)
    await until(lambda: not folder.is_supervised())
    agent = life.start()
    report = await agent.final(order.attempt_id)
    assert (report.state, report.exit_code, code(report)) == ("failed", 4, "EXIT_CODE")
    assert not marker.exists()
    go.unlink()
    other = order_to(f"until [ -e {go} ]; do sleep 0.02; done", verify=check)
    await life.kill()
    await begun(life, other)
    await life.kill()
    go.touch()
    report = await life.start().final(other.attempt_id)
    assert report.state == "completed"
    assert marker.exists()


async def test_the_folder_of_a_run_goes_when_its_end_is_acknowledged(life: Life) -> None:
    order = order_to("echo done")
    agent = life.start()
    agent.worker.assign(order)
    await agent.final(order.attempt_id)
    runs = RunFolders(life.folder / "runs")
    assert list(runs) == [order.attempt_id]
    agent.worker.acknowledge(order.attempt_id)
    assert list(runs) == []


async def test_without_its_supervisor_the_end_is_unknown_with_the_output_there_was(
    life: Life,
) -> None:
    order = order_to("echo half; exec sleep 3101")
    await begun(life, order)
    folder = RunFolders(life.folder / "runs").of(order.attempt_id)
    await until(lambda: folder.taken("stdout").passed_next == 5)
    await life.kill()
    assert folder.pids is not None
    assert folder.pids.command is not None
    os.kill(folder.pids.supervisor.pid, signal.SIGKILL)
    report = await life.start().final(order.attempt_id)
    os.kill(folder.pids.command.pid, signal.SIGKILL)
    assert (report.state, report.effects, code(report)) == (
        "unknown",
        "possible",
        "SUPERVISOR_DIED",
    )
    assert (report.stdout_bytes, [line.split()[2] for line in report.survivors]) == (5, ["sleep"])


async def test_after_a_reboot_the_end_is_unknown_whatever_stands_there(
    life: Life, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    order = order_to(f"until [ -e {go} ]; do sleep 0.02; done")
    await begun(life, order)
    folder = RunFolders(life.folder / "runs").of(order.attempt_id)
    await life.kill()
    go.touch()
    await until(lambda: folder.exit is not None and not folder.is_supervised())
    agent = life.start(boot="another")
    (report,) = agent.worker.reports()
    assert (report.state, code(report)) == ("unknown", "AGENT_DIED")
    agent.worker.acknowledge(order.attempt_id)
    assert not folder.path.exists()


async def test_an_adopted_command_is_cancelled_with_evidence(life: Life) -> None:
    order = order_to(
        "(setsid sleep 3102 &); env -i setsid sleep 3103 & trap '' TERM; sleep 3104; wait"
    )
    await begun(life, order)
    await until(lambda: len(marked_processes(order.attempt_id)) >= 3)
    await life.kill()
    agent = life.start()
    agent.worker.cancel(order.attempt_id, "not wanted any more")
    report = await agent.final(order.attempt_id)
    assert (report.state, report.effects, report.survivors) == ("cancelled", "possible", ())
    assert marked_processes(order.attempt_id) == []


async def test_the_timeout_goes_on_while_there_is_no_agent(life: Life) -> None:
    order = order_to("exec sleep 3105", timeout_ms=700)
    await begun(life, order)
    await life.kill()
    await asyncio.sleep(0.7)
    report = await life.start().final(order.attempt_id)
    assert (report.state, code(report)) == ("timed_out", "TIMEOUT")
    assert marked_processes(order.attempt_id) == []


async def test_output_is_exact_over_many_restarts_with_secrets_in_it(
    life: Life, tmp_path: Path
) -> None:
    secret = "correct horse battery"
    line = f"x{{}} {secret}{secret[:9]} y\n"
    count = 3000
    program = tmp_path / "prints.py"
    program.write_text(
        "import sys, time\n"
        f"for n in range({count}):\n"
        f"    sys.stdout.write({line!r}.format(n)); sys.stderr.write('e')\n"
        "    sys.stdout.flush(); time.sleep(0.0005)\n"
    )
    order = order_to(f"exec python3 -I -S {program}")
    options = {"secrets": (secret,)}
    agent = await begun(life, order, **options)
    for _ in range(8):
        await asyncio.sleep(0.1)
        await life.kill()
        agent = life.start(**options)
    report = await agent.final(order.attempt_id)
    told = "".join(line.format(n) for n in range(count)).replace(secret, "[REDACTED]").encode()
    spool = agent.spools.find(order.attempt_id)
    assert spool is not None
    assert spool.content("stdout") == told
    assert spool.content("stderr") == b"e" * count
    assert (report.state, report.stdout_sha256) == ("completed", hashlib.sha256(told).hexdigest())


async def test_a_command_waits_for_its_reader_while_no_agent_takes_its_output(
    life: Life, tmp_path: Path
) -> None:
    size, go = 12_000_000, tmp_path / "go"
    waits = f"until [ -e {go} ]; do sleep 0.02; done"
    order = order_to(f"{waits}; head -c {size} /dev/zero | tr '\\0' x; echo end >&2")
    await begun(life, order)
    await life.kill()
    go.touch()
    folder = RunFolders(life.folder / "runs").of(order.attempt_id)
    await until(lambda: sum(1 for _ in folder.path.glob("stdout.[0-9]")) >= 4)
    assert folder.is_supervised()
    agent = life.start()
    report = await agent.final(order.attempt_id)
    assert (report.state, report.stdout_bytes) == ("completed", size)
    assert report.stdout_sha256 == hashlib.sha256(b"x" * size).hexdigest()


async def test_an_agent_with_other_definitions_judges_by_those_that_were_approved(
    life: Life,
) -> None:
    order = order_to("exec sleep 3107")
    await begun(life, order)
    await life.kill()
    changed = replace(SHELL, digest="sha256:" + "f" * 64)
    report = await life.start(tools=(changed, LOOK)).final(order.attempt_id)
    # The test tool has no source to restore it from, and the new one is not what was approved.
    assert (report.state, code(report)) == ("unknown", "ADOPTION_FAILED")
    assert report.error is not None
    assert "definition of shell" in report.error.message


async def test_a_stopping_agent_leaves_changes_to_the_next_and_ends_reads(
    life: Life, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    change = order_to(f"until [ -e {go} ]; do sleep 0.02; done; echo done")
    read = Orchestrator("exec_2").order(body_of(LOOK, inputs={"word": "exec sleep 3106"}))
    agent = await begun(life, change)
    agent.worker.assign(read)
    await until(lambda: bool(marked_processes(read.attempt_id)))
    agent.worker.cancel_all("the agent is stopping")
    await asyncio.wait_for(agent.worker.wait_idle(), 10)
    assert (await agent.final(read.attempt_id)).state == "cancelled"
    assert marked_processes(change.attempt_id)
    assert "the agent's next start takes it up" in caplog.text
    assert not agent.worker.all_acknowledged
    agent.worker.acknowledge(read.attempt_id)
    assert agent.worker.all_acknowledged, "a stop would wait for an end that only the next sees"
    await life.kill()
    go.touch()
    report = await life.start().final(change.attempt_id)
    assert (report.state, report.stdout_bytes) == ("completed", 5)


async def test_a_definition_that_was_replaced_meanwhile_is_restored_from_what_was_kept(
    life: Life, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    tool = Registry.load().get("run_command")
    body = body_of(
        tool,
        inputs={"argv": ["sh", "-c", f"until [ -e {go} ]; do sleep 0.02; done; echo done"]},
        risk="destructive",
    )
    order = Orchestrator(f"exec_{secrets.token_hex(8)}", people=(ALICE,)).order(body)
    await begun(life, order, tools=(tool,))
    await life.kill()
    go.touch()
    replaced = replace(tool, digest="sha256:" + "f" * 64)
    report = await life.start(tools=(replaced,)).final(order.attempt_id)
    assert (report.state, json.loads(report.output)["text"]) == ("completed", "done\n")
