"""Wherever an agent dies between reading output and storing it, the next one goes on exactly."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from opsconductor.agent.executors.local.run_folder import RunFolder
from opsconductor.agent.executors.redact import Redactor
from opsconductor.agent.output import Limits, Spool, Spools
from opsconductor.agent.taking import TakingSink

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import Stream
    from opsconductor.agent.executors.redact import StreamRedactor

SECRET = "opensesame"


class Killed(BaseException):
    """The agent was killed here."""


class DyingSpool:
    """A spool that takes only so many bytes in all before its agent is killed."""

    def __init__(self, spool: Spool, bytes_left: int) -> None:
        self._spool = spool
        self._left = bytes_left
        self.streams = spool.streams

    async def write(self, stream: Stream, data: bytes) -> None:
        part = data[: self._left]
        self._left -= len(part)
        await self._spool.write(stream, part)
        if len(part) < len(data):
            raise Killed

    def resume(self, stream: Stream, missing: int) -> None:
        self._spool.resume(stream, missing)


TEXTS = st.lists(
    st.sampled_from([SECRET, SECRET[:4], SECRET[:-1], "x", "plain text ", "\n"]), max_size=30
).map("".join)


def _streams(redactor: Redactor) -> dict[Stream, StreamRedactor]:
    return {"stdout": redactor.stream(), "stderr": redactor.stream()}


async def _live(folder: Path, raw: bytes, piece: int, dies_after: int) -> Spool:
    """Lives as one agent: takes up what is there and moves output on until it is killed."""
    spools = Spools(folder / "spool")
    spool = spools.recover().get("att") or spools.open("att")
    dying = DyingSpool(spool, dies_after)
    redactors = _streams(Redactor((SECRET,)))
    sink = TakingSink(RunFolder(folder), dying, redactors)  # type: ignore[arg-type]
    try:
        at = sink.position("stdout")
        for start in range(at, len(raw), piece):
            await sink.write("stdout", raw[start : start + piece])
        await sink.flush()
    except Killed:
        pass
    finally:
        sink.close()
        spools.close()
    return spool


@given(
    text=TEXTS,
    piece=st.integers(1, 40),
    deaths=st.lists(st.integers(0, 60), max_size=6),
)
async def test_masked_output_is_exact_over_any_deaths(
    text: str, piece: int, deaths: list[int]
) -> None:
    raw = text.encode()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "stdout.0").write_bytes(raw)
        for dies_after in deaths:
            await _live(folder, raw, piece, dies_after)
        await _live(folder, raw, piece, 10**9)
        file = folder / "spool" / "att.stdout"
        stored = file.read_bytes() if file.exists() else b""
        assert stored == Redactor((SECRET,)).data(raw)


async def test_bytes_that_had_no_room_before_the_restart_are_counted_as_left_out(
    tmp_path: Path,
) -> None:
    limits = Limits(attempt_bytes=1000, tail_bytes=100)
    redactor = Redactor(())
    counted = 0
    for taken_up in (False, True):
        spools = Spools(tmp_path / "spool", limits)
        spool = spools.recover()["att"] if taken_up else spools.open("att")
        sink = TakingSink(RunFolder(tmp_path), spool, _streams(redactor))
        assert sink.position("stdout") == counted
        for _ in range(50):
            await sink.write("stdout", b"x" * 40)
            counted += 40
        sink.close()
    spool.finish()
    kept = spool.content("stdout").count(b"x")
    assert kept + spool.left_out["stdout"] == counted == 4000
