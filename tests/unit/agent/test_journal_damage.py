"""What a power loss or a bad disk leaves of a journal is legal or refused, never forgotten."""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from helpers.agents import Agent, says
from helpers.orders import CHANGE, KEEP, NOW, READ, Orchestrator, Person, body_of
from opsconductor.agent.executors.base import Outcome
from opsconductor.agent.journal import Journal
from opsconductor.agent.record_log import JournalCorrupt, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opsconductor.agent.executors.base import Call, Sink
    from opsconductor.agent.order import Order
    from opsconductor.agent.report import Report

ALICE = Person.new("alice")


@dataclass
class Life:
    """A small life of an agent, and what was on its disk at each of its moments."""

    data: bytes = b""
    began: list[tuple[str, int]] = field(default_factory=list)
    """Changes that touched the world, and the bytes that were on disk for certain by then."""
    told: list[tuple[str, str, int]] = field(default_factory=list)
    """Ends that were told of changes, and the bytes that were on disk for certain by then."""
    orders: list[Order] = field(default_factory=list)

    @property
    def boundaries(self) -> list[int]:
        """Ends of records."""
        payloads, _ = decode(self.data)
        ends = [0]
        for payload in payloads:
            ends.append(ends[-1] + len(encode(payload)))
        return ends


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    with pytest.MonkeyPatch.context() as patch:
        return asyncio.run(_live(tmp_path_factory.mktemp("life"), patch))


async def _live(folder: Path, patch: pytest.MonkeyPatch) -> Life:
    made = Life()
    on_disk = [0]
    real = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        real(descriptor)
        on_disk.append(size)

    patch.setattr(os, "fdatasync", fdatasync)
    agent = Agent(folder, ALICE)

    def hear(report: Report) -> None:
        if report.final:
            made.told.append((report.attempt_id, report.state, max(on_disk)))
        agent._receive(report)

    agent.worker.connect(hear)

    async def touches(call: Call, _: Sink, __: asyncio.Event) -> Outcome:
        made.began.append((call.attempt_id, max(on_disk)))
        await asyncio.sleep(0.002)
        return Outcome.ended(call, 0)

    agent.journal.pin_incarnation("inc-1")
    await agent.journal.accept_epoch(1)
    plans: list[tuple[Order, list[Any]]] = [
        (Orchestrator("e1", people=(ALICE,)).order(body_of(CHANGE)), [touches]),
        (Orchestrator("e2").order(body_of(READ)), [says(b"seen")]),
        (Orchestrator("e3", people=(ALICE,)).order(body_of(KEEP)), [says(b'{"was":1}'), touches]),
        (Orchestrator("e4").order(body_of(CHANGE)), []),  # nobody signed it
        (Orchestrator("e5", people=(ALICE,)).order(body_of(CHANGE)), [touches]),
    ]
    for order, scripts in plans:
        agent.executor.scripts += scripts
        agent.worker.assign(order)
        await agent.final(order.attempt_id)
        agent.worker.acknowledge(order.attempt_id)
        made.orders.append(order)
    agent.worker.cancel("att_taken_back", "changed my mind")
    await agent.final("att_taken_back")
    agent.close()
    made.data = (folder / "journal").read_bytes()
    return made


def journal_of(folder: Path, data: bytes) -> Journal:
    path = folder / "journal"
    path.write_bytes(data)
    return Journal.open(path, NOW.timestamp)


def cuts(life: Life) -> Iterator[int]:
    """Yields lengths to which a power loss may cut the file: at and inside every record."""
    ends = life.boundaries
    for begin, end in itertools.pairwise(ends):
        yield from {begin, begin + 1, begin + 13, begin + 14, (begin + end) // 2, end - 1}
    yield ends[-1]


def test_the_life_is_worth_looking_at(life: Life) -> None:
    assert len(life.began) == 3
    assert len(life.boundaries) > 14


def test_nothing_that_may_have_begun_is_forgotten_at_any_cut(life: Life, tmp_path: Path) -> None:
    tried = 0
    for cut in cuts(life):
        journal = journal_of(tmp_path, life.data[:cut])
        journal.unknown_after_crash("b")
        for attempt_id, on_disk in life.began:
            if cut < on_disk:
                continue  # a disk that keeps its promises cannot lose these
            entry = journal.find(attempt_id)
            assert entry is not None, f"cut at {cut}: {attempt_id} would be started again"
            assert entry.report.state in ("unknown", "completed")
            assert entry.report.effects != "none"
            tried += 1
        journal.close()
    assert tried > 30


def test_what_was_told_stays_so_at_any_later_cut(life: Life, tmp_path: Path) -> None:
    reads = {order.attempt_id for order in life.orders if b'"risk":"read_only"' in order.body}
    for cut in cuts(life):
        journal = journal_of(tmp_path, life.data[:cut])
        journal.unknown_after_crash("b")
        for attempt_id, state, on_disk in life.told:
            if cut >= on_disk and attempt_id not in reads:
                entry = journal.find(attempt_id)
                assert entry is not None
                assert entry.report.state == state
        journal.close()


async def test_after_any_cut_the_agent_works_on_and_starts_nothing_twice(
    life: Life, tmp_path: Path
) -> None:
    for number, cut in enumerate(cuts(life)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "journal").write_bytes(life.data[:cut])
        agent = Agent(folder, ALICE)
        for order in life.orders:
            agent.worker.assign(order)
            await agent.final(order.attempt_id)
        again = {call.attempt_id for call in agent.executor.calls}
        certain = {attempt_id for attempt_id, on_disk in life.began if cut >= on_disk}
        assert not certain & again
        agent.close()


def test_a_flipped_bit_in_any_record_refuses_to_start(life: Life, tmp_path: Path) -> None:
    ends = life.boundaries
    for begin, end in itertools.pairwise(ends):
        for position in (begin, begin + 3, begin + 9, begin + 14, (begin + end) // 2, end - 1):
            for bit in (0, 6):
                data = bytearray(life.data)
                data[position] ^= 1 << bit
                with pytest.raises(JournalCorrupt):
                    journal_of(tmp_path, bytes(data))


def test_a_missing_record_in_the_middle_refuses_to_start_or_is_no_loss(
    life: Life, tmp_path: Path
) -> None:
    ends = life.boundaries
    for begin, end in itertools.pairwise(ends[1:]):
        data = life.data[:begin] + bytes(end - begin) + life.data[end:]
        if end == ends[-1]:
            journal_of(tmp_path, data).close()  # the last one may never have been written
            continue
        with pytest.raises(JournalCorrupt):
            journal_of(tmp_path, data)
