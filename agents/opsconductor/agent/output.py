"""Output of attempts on disk, until the orchestrator has stored every byte.

One file per attempt and stream under ``spool/``. Of output beyond the limits the head and the tail
are kept, with a line between them that says how much is missing; what a report declares is what is
here, that line included. The head can be watched as it comes, the tail is added at the end.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from opsconductor.agent.spooled_stream import SpooledStream, Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Stream = Literal["stdout", "stderr"]
STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")
CHUNK_BYTES = 64 * 1024
CREDIT_BYTES = 1024 * 1024
"""Most bytes of one attempt that are sent and not yet acknowledged."""

GAP_NOTE_BYTES = 64
"""Room that the line about a gap takes at most."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much output is kept."""

    attempt_bytes: int = 16 * 1024 * 1024
    tail_bytes: int = 256 * 1024
    """Of each stream, in memory until the attempt ends."""
    total_bytes: int = 2 * 1024 * 1024 * 1024

    @property
    def head_bytes(self) -> int:
        """What both streams of an attempt may fill before their tails begin."""
        return max(self.attempt_bytes - len(STREAMS) * (self.tail_bytes + GAP_NOTE_BYTES), 0)


@dataclass(slots=True)
class Quota:
    """What all spools together may take, and take now."""

    limit: int
    used: int = 0

    @property
    def room(self) -> int:
        """Bytes that may still be stored."""
        return max(self.limit - self.used, 0)


def gap_note(left_out: int) -> bytes:
    """Returns the line that stands where bytes are missing."""
    return f"\n[… {left_out} bytes left out …]\n".encode()


class Spool:
    """Both streams of one attempt; takes output as the executors' sink does."""

    def __init__(
        self,
        attempt_id: str,
        folder: Path,
        notify: Callable[[Spool], None],
        limits: Limits,
        quota: Quota,
    ) -> None:
        self.attempt_id = attempt_id
        self.streams = {name: SpooledStream(folder / f"{attempt_id}.{name}") for name in STREAMS}
        self.left_out: dict[Stream, int] = dict.fromkeys(STREAMS, 0)
        """Bytes of each stream that were produced and are not kept; known when it is finished."""
        self.gap_offsets: dict[Stream, int] = dict.fromkeys(STREAMS, 0)
        """Where those bytes are missing: what is kept goes on there with the line about them."""
        self.released = False
        self.refused = False
        """Whether the orchestrator does not take it in this session."""
        self._tails = {name: Tail(limits.tail_bytes) for name in STREAMS}
        self._room = limits.head_bytes
        self._quota = quota
        self._notify = notify
        self._finished = False

    async def write(self, stream: Stream, data: bytes) -> None:
        """Stores output; what there is no room for is kept as the stream's tail, or counted."""
        tail = self._tails[stream]
        room = 0 if tail.begun else min(self._room, self._quota.room)
        head = data[:room]
        if head and not self._store(stream, head):
            head = b""
        self._room -= len(head)
        if len(head) < len(data):
            if not tail.begun:
                _log.warning("output of %s: no more room for its %s", self.attempt_id, stream)
            tail.add(data[len(head) :])

    def finish(self) -> None:
        """Ends the output: puts the tails behind the heads, and says what is missing between."""
        if self._finished:
            return
        self._finished = True
        for stream, tail in self._tails.items():
            if tail.begun:
                self._put_tail(stream, tail)

    def recover(self, stream: Stream) -> None:
        """Takes up the file of an earlier process; its tail died with that."""
        taken_up = self.streams[stream]
        taken_up.recover()
        self._room -= taken_up.length
        self._quota.used += taken_up.length

    def resume(self, stream: Stream, missing: int) -> None:
        """Goes on behind bytes that were produced and are lost."""
        self._tails[stream].left_out += missing

    def remove(self) -> None:
        """Deletes the files."""
        for stream in self.streams.values():
            self._quota.used -= stream.length
            stream.remove()

    @property
    def dropped(self) -> int:
        """Bytes of both streams that are not kept."""
        return sum(self.left_out.values())

    def content(self, stream: Stream) -> bytes:
        """Returns everything stored of a stream."""
        stored = self.streams[stream]
        return stored.read(0, stored.length)

    @property
    def unacknowledged(self) -> int:
        """Bytes sent and not yet acknowledged."""
        return sum(max(stream.sent - stream.acked, 0) for stream in self.streams.values())

    @property
    def delivered(self) -> bool:
        """Whether every stored byte is acknowledged."""
        return all(stream.acked >= stream.length for stream in self.streams.values())

    def next_chunk(self, credit: int = CREDIT_BYTES) -> tuple[Stream, int, bytes] | None:
        """Returns the next piece and counts it as sent; None without data or credit."""
        if self.refused:
            return None
        room = min(CREDIT_BYTES - self.unacknowledged, credit)
        for name, stream in self.streams.items():
            data = stream.read(stream.sent, min(CHUNK_BYTES, room)) if room > 0 else b""
            if data:
                offset, stream.sent = stream.sent, stream.sent + len(data)
                return name, offset, data
        return None

    def rewind(self) -> None:
        """Goes back to what is acknowledged, for a new connection."""
        for stream in self.streams.values():
            stream.sent = stream.acked

    def _store(self, stream: Stream, data: bytes) -> bool:
        """Appends bytes as a whole; tells whether the disk took them."""
        try:
            self.streams[stream].append(data)
        except OSError as exc:
            _log.error("output of %s is not stored: %s", self.attempt_id, exc)
            return False
        self._quota.used += len(data)
        self._notify(self)
        return True

    def _put_tail(self, stream: Stream, tail: Tail) -> None:
        rest, end = tail.content(), self.streams[stream].length
        whole = gap_note(tail.left_out) + rest if tail.left_out else rest
        if len(whole) <= self._quota.room and self._store(stream, whole):
            self.left_out[stream] = tail.left_out
            self.gap_offsets[stream] = end if tail.left_out else 0
            return
        # The line alone may still fit where the last bytes do not.
        self.left_out[stream] = tail.left_out + len(rest)
        self.gap_offsets[stream] = end
        note = gap_note(self.left_out[stream])
        if len(note) <= self._quota.room:
            self._store(stream, note)


class Spools:
    """All spools of the agent, and which of them have something to send."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self._folder = folder
        self._limits = limits or Limits()
        self._quota = Quota(self._limits.total_bytes)
        self._spools: dict[str, Spool] = {}
        self._wake: Callable[[], None] = lambda: None
        folder.mkdir(mode=0o700, exist_ok=True)

    def open(self, attempt_id: str) -> Spool:
        """Returns a new spool."""
        spool = Spool(attempt_id, self._folder, lambda _: self._wake(), self._limits, self._quota)
        self._spools[attempt_id] = spool
        return spool

    def recover(self) -> dict[str, Spool]:
        """Takes up the files of an earlier process and returns their spools by attempt."""
        for path in sorted(self._folder.iterdir()):
            attempt_id, _, name = path.name.rpartition(".")
            if name in STREAMS and attempt_id:
                spool = self._spools.get(attempt_id) or self.open(attempt_id)
                spool.recover(name)
        return dict(self._spools)

    def find(self, attempt_id: str) -> Spool | None:
        """Returns the spool of an attempt while it is kept."""
        return self._spools.get(attempt_id)

    def __iter__(self) -> Iterator[Spool]:
        return iter(list(self._spools.values()))

    @property
    def unacknowledged(self) -> int:
        """Bytes of all attempts that are sent and not yet acknowledged."""
        return sum(spool.unacknowledged for spool in self._spools.values())

    def on_output(self, wake: Callable[[], None]) -> None:
        """Calls ``wake`` whenever there may be something to send, in this new session."""
        self._wake = wake
        for spool in self._spools.values():
            spool.refused = False
        if self._spools:
            wake()

    def release(self, attempt_id: str) -> None:
        """Notes that the attempt's report is acknowledged; its spool may go when sent."""
        if spool := self._spools.get(attempt_id):
            spool.released = True
            self._drop_if_done(spool)

    def acknowledge(self, attempt_id: str, stream: Stream, stored: int) -> None:
        """Takes an acknowledgement; deletes what nobody needs any more."""
        if spool := self._spools.get(attempt_id):
            spool.streams[stream].acknowledge(stored)
            self._drop_if_done(spool)
            self._wake()

    def refuse(self, attempt_id: str) -> None:
        """Stops sending a spool that is not taken; deletes it when its attempt is settled."""
        if spool := self._spools.get(attempt_id):
            spool.refused = True
            if spool.released:
                self.discard(attempt_id)

    def discard(self, attempt_id: str) -> None:
        """Gives up a spool that nobody will ever take."""
        if spool := self._spools.pop(attempt_id, None):
            spool.remove()

    def close(self) -> None:
        """Closes all files and keeps them."""
        for spool in self._spools.values():
            for stream in spool.streams.values():
                with contextlib.suppress(OSError):
                    stream.close()

    def _drop_if_done(self, spool: Spool) -> None:
        if spool.released and (spool.delivered or spool.refused):
            self.discard(spool.attempt_id)
