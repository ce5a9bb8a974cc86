"""One agent, several orchestrators on one store: a session with each, and everything told once."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest

from helpers.agents import Agent, Gate
from helpers.fake_orchestrator import FakeOrchestrator
from helpers.links import linked
from helpers.orders import CHANGE, READ, Orchestrator, Person, body_of
from helpers.places import until
from opsconductor.agent.executors.base import Outcome
from opsconductor.agent.session import link as link_module
from opsconductor.agent.session.endpoints import FILE, LEARNED_KEPT, Endpoints
from opsconductor.rpc.errors import DuplicateAgent, StaleEpoch
from opsconductor.v1 import execution_service_pb2 as states

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from opsconductor.agent.executors.base import Call, Sink
    from opsconductor.agent.session.shared import Shared

ALICE = Person.new("alice")


@pytest.fixture(autouse=True)
def quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(link_module, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr(link_module, "STAND_BY_WAIT", 0.5)


class Store:
    """The one number that orchestrators on one store count sessions with."""

    def __init__(self) -> None:
        self.epoch = 0


class Replica(FakeOrchestrator):
    """An orchestrator that shares its count of sessions with others."""

    def __init__(self, store: Store) -> None:
        self.store = store
        super().__init__()

    @property
    def epoch(self) -> int:
        return self.store.epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self.store.epoch = value


@pytest.fixture
async def replicas() -> AsyncIterator[tuple[Replica, Replica]]:
    store = Store()
    first, second = Replica(store), Replica(store)
    async with first, second:
        yield first, second


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    made = Agent(tmp_path, ALICE)
    yield made
    made.close()


async def test_every_orchestrator_has_a_session_with_an_epoch_of_its_own(
    agent: Agent, replicas: tuple[Replica, Replica], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = replicas
    async with linked(agent, first, second):
        epochs = {(await each.connection()).epoch for each in replicas}
        await until(lambda: agent.journal.epoch == 2)
    assert epochs == {1, 2}
    assert (first.hellos, second.hellos) == (1, 1)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_an_end_is_told_to_all_and_one_acknowledgement_is_enough(
    agent: Agent, replicas: tuple[Replica, Replica]
) -> None:
    first, second = replicas
    async with linked(agent, *replicas):
        one, _ = await first.connection(), await second.connection()
        order = Orchestrator(people=(ALICE,)).order(body_of(CHANGE))
        await until(lambda: agent.journal.epoch == 2)
        one.assign(order)
        for each in replicas:
            report = await each.report(order.attempt_id)
            assert report.state == states.ATTEMPT_STATE_COMPLETED
        (await second.connection()).ack(order.attempt_id)
        await until(lambda: agent.worker.all_acknowledged)
        one.end()
        assert list((await first.connection(2)).hello.attempts) == []


async def test_the_same_order_over_two_sessions_starts_once(
    agent: Agent, replicas: tuple[Replica, Replica]
) -> None:
    gate = Gate()
    agent.executor.scripts.append(gate)
    order = Orchestrator().order(body_of(READ))
    async with linked(agent, *replicas):
        one, two = [await each.connection() for each in replicas]
        await until(lambda: agent.journal.epoch == 2)
        one.assign(order)
        await gate.entered.wait()
        two.assign(order)
        two.assign(order)
        gate.open.set()
        for each in replicas:
            await each.report(order.attempt_id)
    assert len(agent.executor.calls) == 1


async def test_an_order_is_good_only_in_the_session_it_names(
    agent: Agent, replicas: tuple[Replica, Replica]
) -> None:
    async with linked(agent, *replicas):
        one, two = [await each.connection() for each in replicas]
        await until(lambda: agent.journal.epoch == 2)
        order = Orchestrator().order(body_of(READ))
        one.assign(order, session_epoch=two.epoch)
        report = await replicas[0].report(order.attempt_id)
        assert (report.state, report.error.code) == (
            states.ATTEMPT_STATE_NOT_STARTED,
            "STALE_EPOCH",
        )
    assert agent.executor.calls == []


async def test_work_and_reports_go_on_with_the_one_that_is_left(
    agent: Agent, replicas: tuple[Replica, Replica]
) -> None:
    first, second = replicas
    gate = Gate()
    agent.executor.scripts.append(gate)
    order = Orchestrator().order(body_of(READ))
    async with linked(agent, *replicas):
        (await first.connection()).assign(order)
        await second.connection()
        await gate.entered.wait()
        await first.__aexit__()
        gate.open.set()
        assert (await second.report(order.attempt_id)).state == states.ATTEMPT_STATE_COMPLETED
        (await second.connection()).ack(order.attempt_id)
        await until(lambda: agent.worker.all_acknowledged)


def writes(data: bytes) -> Any:
    async def script(call: Call, sink: Sink, _: asyncio.Event) -> Outcome:
        for at in range(0, len(data), 50_000):
            await sink.write("stdout", data[at : at + 50_000])
            await asyncio.sleep(0)
        return Outcome.ended(call, 0)

    return script


async def test_output_goes_over_one_session_and_moves_when_that_ends(
    agent: Agent, replicas: tuple[Replica, Replica]
) -> None:
    first, second = replicas
    data = random.Random(3).randbytes(2_000_000)
    agent.executor.scripts.append(writes(data))
    order = Orchestrator().order(body_of(READ))
    async with linked(agent, first) as shared:
        connection = await first.connection()
        second.output = first.output  # one store
        shared.endpoints.learn([second.endpoint])
        await second.connection()
        key = (order.attempt_id, states.OUTPUT_STREAM_STDOUT)
        first.stop_output_at = 600_000
        connection.assign(order)
        await until(lambda: len(first.output[key]) >= 600_000)
        assert second.chunks == []
        await first.__aexit__()
        await until(lambda: len(second.output[key]) == len(data))
    assert bytes(second.output[key]) == data
    assert second.chunks[0][0] <= 700_000, "it went on at what was stored"
    assert second.chunks[0][0] > 0


async def test_answers_that_cross_each_other_do_not_alarm_and_do_not_loop(
    agent: Agent,
    replicas: tuple[Replica, Replica],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("opsconductor.agent.session.switchboard.TURN_WAIT", 0.05)
    first, second = replicas
    first.gate = asyncio.Event()
    async with linked(agent, first, second):
        held = await first.connection()
        taken = await second.connection()
        assert (held.epoch, taken.epoch) == (1, 2)
        await until(lambda: agent.journal.epoch == 2)
        first.gate.set()
        again = await first.connection(2)
        assert again.epoch == 3
        await until(lambda: agent.journal.epoch >= 3)
    assert first.hellos == 2
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_an_orchestrator_that_was_overtaken_itself_is_only_tried_again(
    agent: Agent, replicas: tuple[Replica, Replica], caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = replicas
    first.refusal = StaleEpoch("agent local has opened session 9")
    async with linked(agent, first):
        await until(lambda: first.hellos >= 2)
        first.refusal = None
        await first.connection()
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_two_ways_to_one_orchestrator_end_in_one_session(
    agent: Agent, replicas: tuple[Replica, Replica], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = replicas
    second.replica_id = first.replica_id
    async with linked(agent, *replicas) as shared:
        await until(lambda: first.hellos + second.hellos == 2)
        await until(lambda: _open(shared) == [2])
        newest = first if first.connections and first.connections[-1].epoch == 2 else second
        (kept,) = shared.board._sessions
        await until(lambda: len(_beats(newest)) >= 5)
        assert shared.board._sessions == [kept]
        assert first.hellos + second.hellos == 2
        # When the kept one ends, there is one again.
        newest.connections[-1].end()
        await until(lambda: first.hellos + second.hellos >= 3)
        await until(lambda: len(_open(shared)) == 1 and _open(shared)[0] >= 3)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def _open(shared: Shared) -> list[int]:
    """Returns the epochs of open sessions."""
    return [session._fence.epoch for session in shared.board._sessions]  # type: ignore[attr-defined]


def _beats(server: FakeOrchestrator) -> list[int]:
    return [
        frame.heartbeat.number
        for frame in server.connections[-1].frames
        if frame.HasField("heartbeat")
    ]


async def test_orchestrators_named_in_a_welcome_are_joined_and_remembered(
    agent: Agent, replicas: tuple[Replica, Replica], tmp_path: Path
) -> None:
    first, second = replicas
    first.endpoints = [first.endpoint, second.endpoint, "no endpoint"]
    async with linked(agent, first):
        await second.connection()
    assert list(Endpoints(tmp_path / FILE, ["a:1"])) == ["a:1", second.endpoint]
    async with linked(agent, first):
        await second.connection(2)


def test_only_so_many_orchestrators_are_remembered_and_the_newest_stay(tmp_path: Path) -> None:
    endpoints = Endpoints(tmp_path / FILE, ["a:1"])
    for number in range(1, 100):
        endpoints.learn(["a:1", f"b:{number}"])
    known = list(endpoints)
    assert known[:2] == ["a:1", "b:99"]
    assert len(known) == LEARNED_KEPT + 1


def test_a_damaged_memory_of_orchestrators_is_no_reason_to_stand_still(tmp_path: Path) -> None:
    for text in ("[", "[]", '{"learned": 1}', '{"learned": ["x", 3, "b:2"]}'):
        (tmp_path / FILE).write_text(text)
        assert list(Endpoints(tmp_path / FILE, ["a:1"])) in (["a:1"], ["a:1", "b:2"])


async def test_a_cloned_agent_says_so_and_asks_seldom(
    agent: Agent,
    replicas: tuple[Replica, Replica],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    def uniform(_: float, longest: float) -> float:
        waits.append(longest)
        return 0.01

    monkeypatch.setattr("opsconductor.agent.session.link.random.uniform", uniform)
    first, _ = replicas
    first.refusal = DuplicateAgent("agent local is connected twice")
    async with linked(agent, first):
        await until(lambda: first.hellos >= 3)
    assert set(waits) == {link_module.DUPLICATE_WAIT}
    assert caplog.text.count("DUPLICATE_AGENT") == 1
    assert "copy of this agent's folder" in caplog.text


async def test_all_are_told_that_the_agent_drains(
    agent: Agent, replicas: tuple[Replica, Replica]
) -> None:
    async with linked(agent, *replicas) as shared:
        for each in replicas:
            await each.connection()
        await until(lambda: agent.journal.epoch == 2)
        agent.worker.drain("maintenance")
        shared.board.announce_draining()
        for each in replicas:
            connection = await each.connection()
            await each.until(lambda c=connection: any(f.HasField("draining") for f in c.frames))  # type: ignore[misc]
