from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.agents import Agent
from helpers.orders import READ, Orchestrator, body_of
from opsconductor.agent import output
from opsconductor.agent.executors.base import Outcome
from opsconductor.agent.output import CHUNK_BYTES, CREDIT_BYTES, Spools

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    import pytest

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


async def test_output_beyond_the_limit_is_dropped_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loud(call: Call, sink: Sink, _: asyncio.Event) -> Outcome:
        for _number in range(4):
            await sink.write("stdout", b"y" * 60)
        return Outcome.ended(call, 3)

    monkeypatch.setattr(output, "MAX_ATTEMPT_BYTES", 100)
    agent = Agent(tmp_path)
    agent.executor.scripts.append(loud)
    order = Orchestrator().order(body_of(READ))
    agent.worker.assign(order)
    report = await agent.final(order.attempt_id)
    assert report.stdout_bytes == 100
    assert report.stdout_sha256 == hashlib.sha256(b"y" * 100).hexdigest()
    assert report.error is not None
    assert "output cut at 100 bytes, 140 dropped" in report.error.message
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
