from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from opsconductor.agent import record_log
from opsconductor.agent.record_log import (
    JournalCorrupt,
    JournalFailed,
    JournalFull,
    RecordLog,
    decode,
    encode,
)

if TYPE_CHECKING:
    from pathlib import Path

PAYLOADS = st.lists(st.binary(max_size=60), max_size=8)


@given(PAYLOADS)
def test_records_come_back_as_written(payloads: list[bytes]) -> None:
    data = b"".join(map(encode, payloads))
    assert decode(data) == (payloads, len(data))


@given(PAYLOADS, st.data())
def test_any_cut_leaves_a_prefix(payloads: list[bytes], draw: st.DataObject) -> None:
    data = b"".join(map(encode, payloads))
    cut = draw.draw(st.integers(0, len(data)))
    found, good = decode(data[:cut])
    assert found == payloads[: len(found)]
    assert data[:good] == b"".join(map(encode, found))


@given(st.lists(st.binary(max_size=60), min_size=2, max_size=8), st.data())
def test_a_flipped_bit_before_the_last_record_is_refused(
    payloads: list[bytes], draw: st.DataObject
) -> None:
    records = [encode(payload) for payload in payloads]
    data = bytearray(b"".join(records))
    position = draw.draw(st.integers(0, len(data) - len(records[-1]) - 1))
    data[position] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(JournalCorrupt):
        decode(bytes(data))


TEXTS = st.binary(min_size=1, max_size=60).map(lambda data: data.replace(b"\0", b"0"))


@given(st.lists(TEXTS, min_size=1, max_size=6), st.data())
def test_a_flipped_bit_in_the_last_record_is_no_torn_write(
    payloads: list[bytes], draw: st.DataObject
) -> None:
    records = [encode(payload) for payload in payloads]
    data = bytearray(b"".join(records))
    position = draw.draw(st.integers(len(data) - len(records[-1]), len(data) - 1))
    flipped = data[position] ^ 1 << draw.draw(st.integers(0, 7))
    assume(flipped)  # a zero at the end reads as never written
    data[position] = flipped
    with pytest.raises(JournalCorrupt):
        decode(bytes(data))


@given(st.lists(TEXTS, max_size=4), TEXTS, st.data())
def test_a_record_with_parts_that_were_never_written_is_cut(
    payloads: list[bytes], last: bytes, draw: st.DataObject
) -> None:
    good = b"".join(map(encode, payloads))
    torn = bytearray(encode(last * 12))
    begin = draw.draw(st.integers(0, len(torn)))
    torn[begin:] = bytes(len(torn) - begin)
    if draw.draw(st.booleans()):
        torn = torn[: max(begin, 1)]
    assume(bytes(torn) != encode(last * 12))
    assert decode(good + bytes(torn)) == (payloads, len(good))


def test_something_else_behind_the_last_record_is_refused() -> None:
    with pytest.raises(JournalCorrupt, match="last record"):
        decode(encode(b"a") + b"somebody else wrote this here")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(PAYLOADS, PAYLOADS, st.binary(max_size=20))
def test_a_torn_file_takes_new_records_after_the_good_ones(
    tmp_path: Path, before: list[bytes], after: list[bytes], torn: bytes
) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"".join(map(encode, before)) + encode(torn)[:-1])
    log, found = RecordLog.open(path)
    for payload in after:
        log.append(payload)
    log.close()
    assert found == before
    assert decode(path.read_bytes())[0] == before + after


async def test_one_sync_serves_all_who_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _ = RecordLog.open(tmp_path / "journal")
    synced: list[int] = []
    real = os.fdatasync

    def counting(descriptor: int) -> None:
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", counting)

    async def append(number: int) -> None:
        log.append(str(number).encode())
        await log.sync()

    await asyncio.gather(*(append(number) for number in range(50)))
    assert len(synced) <= 3
    log.close()


async def test_a_failed_sync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = RecordLog.open(tmp_path / "journal")
    log.append(b"a")

    def failing(_: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", failing)
        with pytest.raises(JournalFailed, match="could not be synced"):
            await log.sync()
    with pytest.raises(JournalFailed):
        log.append(b"b")
    log.close()


def full_disk(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if path.with_suffix(".ballast").exists():
            real(descriptor, bytes(data[:3]))
            raise OSError(errno.ENOSPC, "no space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)


def test_a_full_disk_refuses_a_promise_and_leaves_no_half_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    log, _ = RecordLog.open(path)
    log.append(b"before")
    full_disk(monkeypatch, path)
    with pytest.raises(JournalFull):
        log.append(b"promise")
    assert decode(path.read_bytes()) == ([b"before"], len(encode(b"before")))
    monkeypatch.undo()
    log.close()


def test_an_end_is_written_from_the_reserve_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    log, _ = RecordLog.open(path)
    full_disk(monkeypatch, path)
    log.append(b"end", urgent=True)
    monkeypatch.undo()
    log.close()
    assert decode(path.read_bytes())[0] == [b"end"]


def test_rewriting_replaces_everything_durably(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    log, _ = RecordLog.open(path)
    for number in range(100):
        log.append(str(number).encode())
    log.rewrite([b"only", b"these"])
    log.append(b"and this")
    log.close()
    assert decode(path.read_bytes())[0] == [b"only", b"these", b"and this"]


async def test_a_sync_ends_also_when_the_file_is_rewritten_smaller_before_its_caller_goes_on(
    tmp_path: Path,
) -> None:
    log, _ = RecordLog.open(tmp_path / "journal")
    log.append(b"x" * 1000)
    waiting = asyncio.create_task(log.sync())
    await asyncio.sleep(0)
    assert log._syncing is not None
    log.append(b"y" * 1000)
    later = asyncio.create_task(log.sync())
    log._syncing.add_done_callback(lambda _: log.rewrite([b"short"]))
    await asyncio.wait_for(asyncio.gather(waiting, later), 30)
    log.append(b"last")
    await asyncio.wait_for(log.sync(), 30)
    log.close()
    assert decode((tmp_path / "journal").read_bytes())[0] == [b"short", b"last"]


def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def fallocate(_: int, __: int, ___: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fallocate)


def test_what_the_reserve_gave_up_is_not_spent_on_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _ = RecordLog.open(tmp_path / "journal")
    with monkeypatch.context() as patched:
        full_disk(patched, tmp_path / "journal")
        no_room(patched)
        log.append(b"end", urgent=True)
        with pytest.raises(JournalFull):
            log.append(b"promise")
        log.append(b"another end", urgent=True)
    log.close()


def test_the_reserve_comes_back_with_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    with monkeypatch.context() as patched:
        no_room(patched)
        log, _ = RecordLog.open(path)
        assert not log.restore_reserve()
        assert not path.with_suffix(".ballast").exists()
    log.append(b"promise")
    assert path.with_suffix(".ballast").stat().st_size == record_log.BALLAST_BYTES
    log.close()
