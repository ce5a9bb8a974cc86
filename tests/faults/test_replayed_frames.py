"""Frames of a session that are sent again, at any time and in any order, start nothing again."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from helpers import ledger
from helpers.frame_tap import FrameTap
from helpers.places import until
from opsconductor.v1 import agent_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from helpers.frame_tap import Session
    from helpers.stack import Stack

LINES = ["one", "two", "three"]
SEEDS = (1, 2, 3)


@pytest.fixture
async def tap(stack: Stack) -> AsyncIterator[FrameTap]:
    """What the local agent takes for its orchestrator."""
    await asyncio.to_thread(stack.start_orchestrator)
    folder = stack.embedded.agent_directory
    async with FrameTap(stack.data / "pki", folder, stack.endpoint) as made:
        stack.variables["OPSCONDUCTOR_AGENT_ENDPOINT"] = made.endpoint
        stack.start_agent()
        yield made
        await asyncio.to_thread(stack.down)


async def session(tap: FrameTap, after: int = 0) -> Session:
    """Returns the newest session once it is open and not one of the first few."""
    await until(lambda: len(tap.sessions) > after and bool(tap.sessions[-1].to_agent), 60)
    return tap.sessions[-1]


async def lived(stack: Stack, tap: FrameTap) -> tuple[Session, list[str]]:
    """Returns a session in which one plan was completed and one cancelled, with their ids."""
    recorded = await session(tap)
    done = await asyncio.to_thread(stack.submit, ledger.plan(stack.ledger, *LINES))
    assert (await asyncio.to_thread(stack.wait_for, done))["status"] == "completed"
    argv = ["sh", "-c", f"echo begun >> {stack.ledger}; sleep 600"]
    step = {"id": "long", "tool": "run_command", "inputs": {"argv": argv}, "undo": "none"}
    long = await asyncio.to_thread(stack.submit, {"name": "long", "steps": [step]})
    await until(lambda: "begun" in ledger.lines(stack.ledger), 60)
    await asyncio.to_thread(stack.opsctl, "runs", "cancel", long)
    assert (await asyncio.to_thread(stack.wait_for, long))["status"] == "cancelled"
    kinds = {pb.OrchestratorFrame.FromString(frame).WhichOneof("frame") for frame in said(recorded)}
    assert {"assign", "cancel", "report_ack"} <= kinds
    return recorded, [done, long]


def said(recorded: Session) -> list[bytes]:
    """Returns what the orchestrator said after its Welcome."""
    return recorded.to_agent[1:]


def of(epoch: int, frames: list[bytes]) -> list[bytes]:
    """Returns frames as if they were of another session."""
    changed = [pb.OrchestratorFrame.FromString(frame) for frame in frames]
    for frame in changed:
        if frame.HasField("assign"):
            frame.assign.session_epoch = epoch
    return [frame.SerializeToString() for frame in changed]


def disordered(frames: list[bytes], seed: int) -> list[bytes]:
    """Returns frames twice each, in an order that a seed decides."""
    twice = [*frames, *frames]
    random.Random(seed).shuffle(twice)
    return twice


async def works_on(stack: Stack, line: str) -> None:
    """Runs one more step, behind all that was sent again."""
    run = await asyncio.to_thread(stack.submit, ledger.plan(stack.ledger, line))
    assert (await asyncio.to_thread(stack.wait_for, run))["status"] == "completed"


async def test_what_an_orchestrator_said_starts_nothing_when_it_is_said_again(
    stack: Stack, tap: FrameTap
) -> None:
    recorded, _ = await lived(stack, tap)
    expected = [*LINES, "begun"]
    frames = said(recorded)
    for seed in SEEDS:
        for frame in disordered(frames, seed):
            recorded.tell_agent(frame)
    await works_on(stack, "same-session")
    # Later, to another process of the agent, as it was said then and as if it were said now.
    await asyncio.to_thread(stack.kill_agent)
    before = len(tap.sessions)
    stack.start_agent()
    later = await session(tap, before)
    epoch = pb.OrchestratorFrame.FromString(later.to_agent[0]).welcome.session_epoch
    for seed in SEEDS:
        for frame in disordered([*frames, *of(epoch, frames)], seed):
            later.tell_agent(frame)
    await works_on(stack, "later-session")
    assert not later.over
    assert ledger.lines(stack.ledger) == [*expected, "same-session", "later-session"]


async def test_a_welcome_of_an_earlier_session_opens_none(stack: Stack, tap: FrameTap) -> None:
    recorded, _ = await lived(stack, tap)
    welcome, frames = recorded.to_agent[0], said(recorded)
    # In the middle of a session it is no frame the agent knows: that session is given up.
    recorded.tell_agent(welcome)
    for frame in frames:
        recorded.tell_agent(frame)
    second = await session(tap, 1)
    tap.first_words = welcome
    second.tell_agent(welcome)
    log = stack.embedded.agent.log_file
    await until(lambda: "an old replica or a store that went back in time" in log.read_text(), 60)
    await session(tap, 2)
    await works_on(stack, "after-welcome")
    assert ledger.lines(stack.ledger) == [*LINES, "begun", "after-welcome"]


async def test_what_an_agent_said_changes_nothing_when_it_is_said_again(
    stack: Stack, tap: FrameTap
) -> None:
    recorded, runs = await lived(stack, tap)
    known = [await asyncio.to_thread(stack.json, "runs", "get", run) for run in runs]
    hello, *frames = recorded.to_orchestrator
    for seed in SEEDS:
        for frame in disordered(frames, seed):
            recorded.tell_orchestrator(frame)
    await works_on(stack, "same-session")
    recorded.tell_orchestrator(hello)
    await works_on(stack, "after-hello")
    assert ledger.lines(stack.ledger)[4:] == ["same-session", "after-hello"]
    assert [await asyncio.to_thread(stack.json, "runs", "get", run) for run in runs] == known
