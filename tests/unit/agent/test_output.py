from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.agents import Agent
from helpers.orders import READ, Orchestrator, body_of
from opsconductor.agent import output
from opsconductor.agent.executors.base import Outcome
from opsconductor.agent.output import CHUNK_BYTES, CREDIT_BYTES, Limits, Spools, gap_note

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from opsconductor.agent.executors.base import Call, Sink


PIECES = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=200)), max_size=20
)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(PIECES, st.data())
async def test_whatever_is_lost_on_the_way_everything_arrives_once(
    tmp_path: Path, pieces: list[tuple[output.Stream, bytes]], draw: st.DataObject
) -> None:
    spools = Spools(tmp_path / "spool")
    spool = spools.open("att_1")
    stored: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    for stream, data in pieces:
        await spool.write(stream, data)
        if draw.draw(st.booleans()):
            spool.rewind()
        while (piece := spool.next_chunk()) and draw.draw(st.booleans()):
            name, offset, chunk = piece
            if draw.draw(st.booleans()) and offset == len(stored[name]):
                stored[name] += chunk
                if draw.draw(st.booleans()):
                    spools.acknowledge("att_1", name, len(stored[name]))
    spool.rewind()
    while piece := spool.next_chunk():
        name, offset, chunk = piece
        have = stored[name]
        assert have[offset : offset + len(chunk)] == chunk[: len(have) - offset]
        stored[name] = have + chunk[len(have) - offset :]
        spools.acknowledge("att_1", name, len(stored[name]))
    for name in ("stdout", "stderr"):
        whole = b"".join(data for stream, data in pieces if stream == name)
        assert stored[name] == whole
        expected = hashlib.sha256(whole).hexdigest() if whole else ""
        assert spool.streams[name].sha256 == expected
    spools.discard("att_1")


async def test_no_more_than_the_credit_is_sent_unacknowledged(tmp_path: Path) -> None:
    spools = Spools(tmp_path / "spool")
    spool = spools.open("att_1")
    await spool.write("stdout", bytes(3 * CREDIT_BYTES))
    sent = 0
    while piece := spool.next_chunk():
        assert len(piece[2]) <= CHUNK_BYTES
        sent += len(piece[2])
    assert sent == CREDIT_BYTES
    spools.acknowledge("att_1", "stdout", CHUNK_BYTES)
    assert spool.next_chunk() is not None
    spools.discard("att_1")


async def test_a_store_that_went_back_gets_the_bytes_again(tmp_path: Path) -> None:
    spools = Spools(tmp_path / "spool")
    spool = spools.open("att_1")
    await spool.write("stdout", b"0123456789")
    spool.next_chunk()
    spools.acknowledge("att_1", "stdout", 10)
    spools.acknowledge("att_1", "stdout", 4)
    assert spool.next_chunk() == ("stdout", 4, b"456789")
    spools.discard("att_1")


async def test_a_store_that_has_more_is_not_sent_it_again(tmp_path: Path) -> None:
    spools = Spools(tmp_path / "spool")
    spool = spools.open("att_1")
    await spool.write("stdout", b"0123456789")
    spools.acknowledge("att_1", "stdout", 7)
    assert spool.next_chunk() == ("stdout", 7, b"789")
    spools.discard("att_1")


async def test_a_spool_is_kept_until_report_and_bytes_are_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spools = Spools(folder)
    await spools.open("a").write("stdout", b"x")
    spools.release("a")
    assert list(folder.iterdir())
    spools.acknowledge("a", "stdout", 1)
    assert not list(folder.iterdir())
    await spools.open("b").write("stderr", b"x")
    spools.acknowledge("b", "stderr", 1)
    assert list(folder.iterdir())
    spools.release("b")
    assert not list(folder.iterdir())


async def test_output_of_unknown_attempts_is_removed_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "att_never.stdout").write_bytes(b"x")
    agent = Agent(tmp_path)
    assert not list((tmp_path / "spool").iterdir())
    agent.close()


LIMITS = Limits(attempt_bytes=400, tail_bytes=20, total_bytes=5000)


def limited(folder: Path, limits: Limits = LIMITS) -> Spools:
    return Spools(folder / "limited", limits)


async def test_of_output_beyond_the_limit_head_and_tail_are_kept_and_the_gap_is_told(
    tmp_path: Path,
) -> None:
    spools = limited(tmp_path)
    spool = spools.open("att_1")
    data = b"".join(b"%08d\n" % number for number in range(100))
    for at in range(0, len(data), 50):
        await spool.write("stdout", data[at : at + 50])
    spool.finish()
    head = LIMITS.head_bytes
    left_out = len(data) - head - 20
    kept = spool.content("stdout")
    assert kept == data[:head] + gap_note(left_out) + data[-20:]
    assert spool.gap_offsets["stdout"] == head
    assert f"[… {left_out} bytes left out …]".encode() in kept
    assert (spool.left_out, spool.dropped) == ({"stdout": left_out, "stderr": 0}, left_out)
    assert len(kept) <= LIMITS.attempt_bytes
    stream = spool.streams["stdout"]
    assert (stream.length, stream.sha256) == (len(kept), hashlib.sha256(kept).hexdigest())
    spool.finish()
    assert spool.content("stdout") == kept


async def test_output_that_just_fits_with_its_tail_has_no_gap(tmp_path: Path) -> None:
    spool = limited(tmp_path).open("att_1")
    data = b"z" * (LIMITS.head_bytes + 20)
    await spool.write("stderr", data)
    spool.finish()
    assert spool.content("stderr") == data
    assert spool.dropped == 0


@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=150)), max_size=20)
)
async def test_what_is_kept_and_what_is_missing_is_all_there_was(
    tmp_path: Path, pieces: list[tuple[output.Stream, bytes]]
) -> None:
    spools = limited(tmp_path)
    spool = spools.open("att_1")
    for stream, data in pieces:
        await spool.write(stream, data)
    spool.finish()
    total = 0
    for name in output.STREAMS:
        whole = b"".join(data for stream, data in pieces if stream == name)
        kept, missing = spool.content(name), spool.left_out[name]
        total += len(kept)
        head, note, tail = kept.partition(gap_note(missing)) if missing else (kept, b"", b"")
        assert bool(missing) == bool(note)
        assert whole.startswith(head)
        assert whole.endswith(tail)
        assert len(head) + missing + len(tail) == len(whole)
    assert total <= LIMITS.attempt_bytes
    spools.discard("att_1")


async def test_all_spools_together_stay_within_the_total_and_room_comes_back(
    tmp_path: Path,
) -> None:
    limits = Limits(attempt_bytes=1000, tail_bytes=20, total_bytes=1500)
    spools = limited(tmp_path, limits)
    for name in "abc":
        spool = spools.open(name)
        await spool.write("stdout", b"." * 900)
        spool.finish()
    sizes = [path.stat().st_size for path in (tmp_path / "limited").iterdir()]
    assert sum(sizes) <= limits.total_bytes
    last = spools.find("c")
    assert last is not None
    assert last.dropped + last.content("stdout").count(b".") == 900
    spools.discard("a")
    again = spools.open("d")
    await again.write("stdout", b"." * 600)
    assert again.content("stdout") == b"." * 600


async def test_recovered_output_counts_against_the_limits(tmp_path: Path) -> None:
    before = limited(tmp_path)
    await before.open("a").write("stdout", b"." * LIMITS.head_bytes)
    before.close()
    spools = limited(tmp_path)
    spool = spools.recover()["a"]
    await spool.write("stdout", b"!" * 100)
    spool.finish()
    assert spool.left_out["stdout"] == 80
    assert len(spool.content("stdout")) <= LIMITS.attempt_bytes
    assert spools._quota.used == len(spool.content("stdout"))


class FullDisk:
    """Lets a number of bytes be written below a folder of spools, then none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self._pwrite = os.pwrite
        monkeypatch.setattr(os, "pwrite", self._write)

    def _write(self, descriptor: int, data: bytes, offset: int) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "no space left on device")
        written = self._pwrite(descriptor, data[: self.room], offset)
        self.room -= written
        return written


async def test_a_full_disk_leaves_a_gap_that_is_told_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = limited(tmp_path).open("att_1")
    disk = FullDisk(monkeypatch, room=25)
    for _ in range(6):
        await spool.write("stdout", b"0123456789")
    disk.room = 1000
    spool.finish()
    # Twenty bytes were stored; the piece that did not fit was not stored by half.
    assert spool.content("stdout") == b"0123456789" * 2 + gap_note(20) + b"0123456789" * 2
    assert spool.left_out["stdout"] == 20


async def test_output_after_a_gap_never_stands_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = limited(tmp_path).open("att_1")
    disk = FullDisk(monkeypatch, room=4)
    await spool.write("stdout", b"1234")
    await spool.write("stdout", b"5678")
    disk.room = 1000
    await spool.write("stdout", b"9")
    assert spool.content("stdout") == b"1234"
    spool.finish()
    assert spool.content("stdout") == b"123456789"
    assert spool.dropped == 0


async def test_on_a_disk_that_stays_full_what_is_missing_is_still_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loud(call: Call, sink: Sink, _: asyncio.Event) -> Outcome:
        for _number in range(6):
            await sink.write("stdout", b"0123456789")
        return Outcome.ended(call, 0)

    agent = Agent(tmp_path, limits=LIMITS)
    FullDisk(monkeypatch, room=25)
    agent.executor.scripts.append(loud)
    order = Orchestrator().order(body_of(READ))
    agent.worker.assign(order)
    report = await agent.final(order.attempt_id)
    assert (report.state, report.stdout_bytes, report.stdout_left_out) == ("completed", 20, 40)
    assert report.stdout_gap_offset == 20, "there was no room for the line about it"
    assert report.stdout_sha256 == hashlib.sha256(b"0123456789" * 2).hexdigest()
    agent.close()


async def test_a_failure_says_how_much_of_its_output_is_missing(tmp_path: Path) -> None:
    async def loud(call: Call, sink: Sink, _: asyncio.Event) -> Outcome:
        for _number in range(40):
            await sink.write("stdout", b"y" * 60)
        return Outcome.ended(call, 3)

    agent = Agent(tmp_path, limits=LIMITS)
    agent.executor.scripts.append(loud)
    order = Orchestrator().order(body_of(READ))
    agent.worker.assign(order)
    report = await agent.final(order.attempt_id)
    missing = 2400 - LIMITS.head_bytes - 20
    assert report.stdout_left_out == missing
    assert report.error is not None
    assert f"{missing} bytes were left out" in report.error.message
    agent.close()


async def test_secrets_are_masked_in_output_command_and_messages(tmp_path: Path) -> None:
    secret = "correct horse battery"

    async def leaks(call: Call, sink: Sink, _: asyncio.Event) -> Outcome:
        await sink.write("stdout", b"the password is correct ho")
        await sink.write("stdout", b"rse battery\n")
        await sink.write("stderr", b"bad login: " + secret.encode())
        return Outcome.ended(call, 1)

    agent = Agent(tmp_path)
    agent.secrets = (secret,)
    agent.executor.scripts.append(leaks)
    order = Orchestrator().order(body_of(READ, inputs={"word": secret}))
    agent.worker.assign(order)
    report = await agent.final(order.attempt_id)
    spool = agent.spools.find(order.attempt_id)
    assert spool is not None
    assert spool.content("stdout") == b"the password is [REDACTED]\n"
    assert secret not in repr(report)
    assert secret.encode() not in (tmp_path / "journal").read_bytes()
    agent.close()


@pytest.mark.parametrize(
    ("state", "stored"),
    [("cancelled", b"password: [REDACTED]"), ("completed", b"password: correct ho")],
)
async def test_a_tool_that_is_ended_amid_a_secret_leaks_no_part_of_it(
    tmp_path: Path, state: Literal["cancelled", "completed"], stored: bytes
) -> None:
    async def is_cut_off(call: Call, sink: Sink, _: asyncio.Event) -> Outcome:
        await sink.write("stdout", b"password: correct ho")
        if state == "completed":
            return Outcome.ended(call, 0)
        return Outcome.stopped(call, state, exit_code=None)

    agent = Agent(tmp_path)
    agent.secrets = ("correct horse battery",)
    agent.executor.scripts.append(is_cut_off)
    order = Orchestrator().order(body_of(READ))
    agent.worker.assign(order)
    assert (await agent.final(order.attempt_id)).state == state
    spool = agent.spools.find(order.attempt_id)
    assert spool is not None
    assert spool.content("stdout") == stored
    agent.close()
