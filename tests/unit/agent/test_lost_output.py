"""Output that the agent's disk did not take is declared; nobody reads on as if it were all."""

from __future__ import annotations

import json
import secrets
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from helpers.agents import Agent
from helpers.orders import CHANGES, Orchestrator, Person, body_of, make_tool
from opsconductor.agent.ending import as_kept
from opsconductor.agent.executors.local.executor import LocalExecutor
from opsconductor.agent.executors.local.run_folder import RunFolder
from opsconductor.agent.output import Spools, gap_note
from opsconductor.agent.report import Report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from opsconductor.agent.executors.local.run_folder import Start

ALICE = Person.new("alice")
_PARAMETERS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["word"],
    "properties": {"word": {"type": "string", "maxLength": 2000}},
}
SHELL = make_tool(
    "shell", annotations=CHANGES, parameters=_PARAMETERS, command={"argv": ["sh", "-c", "{word}"]}
)


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    executor = LocalExecutor(linger=timedelta(seconds=0.3))
    made = Agent(tmp_path, ALICE, real=executor, tools=(SHELL,))
    yield made
    await executor.close()
    made.close()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets no supervisor store standard output."""
    real = RunFolder.prepare

    def prepare(folder: RunFolder, start: Start) -> int:
        lock = real(folder, start)
        (folder.path / "stdout.0").symlink_to("/nowhere/at/all")
        return lock

    monkeypatch.setattr(RunFolder, "prepare", prepare)


async def run(agent: Agent, script: str, **changes: Any) -> Report:
    body = body_of(SHELL, inputs={"word": script}, **changes)
    order = Orchestrator(f"exec_{secrets.token_hex(8)}", people=(ALICE,)).order(body)
    agent.worker.assign(order)
    return await agent.final(order.attempt_id)


@pytest.mark.usefixtures("full")
async def test_a_command_that_succeeded_says_what_is_lost_of_its_output(agent: Agent) -> None:
    report = await run(agent, "echo hello; echo world >&2")
    assert (report.state, report.effects, report.exit_code) == ("completed", "done", 0)
    assert report.error is not None
    assert (report.error.code, "6 bytes" in report.error.message) == ("OUTPUT_LOST", True)
    assert (report.stdout_left_out, report.stderr_left_out) == (6, 0)
    assert json.loads(report.output)["omitted"] is True
    spool = agent.spools.find(report.attempt_id)
    assert spool is not None
    assert (spool.content("stdout"), spool.content("stderr")) == (gap_note(6), b"world\n")


@pytest.mark.usefixtures("full")
async def test_a_command_that_failed_says_so_and_what_is_lost(agent: Agent) -> None:
    report = await run(agent, "echo hello; exit 4")
    assert report.error is not None
    assert (report.state, report.exit_code, report.error.code) == ("failed", 4, "EXIT_CODE")
    assert "6 bytes of its output are lost" in report.error.message


@pytest.mark.usefixtures("full")
async def test_success_that_shows_in_the_output_is_not_assumed(agent: Agent) -> None:
    report = await run(agent, "echo hello", success='output.text == ""')
    assert report.error is not None
    assert (report.state, report.effects, report.error.code) == (
        "failed",
        "possible",
        "OUTPUT_LOST",
    )


@pytest.mark.usefixtures("full")
async def test_nothing_is_lost_of_a_command_that_printed_nothing(agent: Agent) -> None:
    report = await run(agent, "true")
    assert (report.state, report.error, report.stdout_left_out) == ("completed", None, 0)


async def test_a_sink_that_fails_is_told_in_the_report(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr("opsconductor.agent.taking.note_taken", unable)
    report = await run(agent, "echo hello")
    assert report.error is not None
    assert (report.state, report.error.code) == ("completed", "OUTPUT_LOST")
    assert (report.stdout_bytes, report.stdout_left_out) == (len(gap_note(6)), 6)


async def test_bytes_that_a_power_loss_took_are_declared_as_missing(tmp_path: Path) -> None:
    spools = Spools(tmp_path)
    spool = spools.open("att_1")
    await spool.write("stdout", b"0123456789")
    report = Report(
        "att_1",
        "completed",
        stdout_bytes=100,
        stderr_bytes=7,
        stderr_left_out=50,
        stderr_gap_offset=3,
    )
    kept = as_kept(report, spool)
    assert (kept.stdout_bytes, kept.stdout_sha256) == (10, sha256(b"0123456789").hexdigest())
    assert (kept.stdout_left_out, kept.stdout_gap_offset) == (90, 10)
    assert (kept.stderr_bytes, kept.stderr_left_out, kept.stderr_gap_offset) == (0, 57, 0)
    assert as_kept(kept, spool) == kept
