"""A stand-in for tests of plans and tools: predefined replies, delays, chunks and errors."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.base import Outcome
from opsconductor.agent.executors.waiting import boottime, wait_end
from opsconductor.tool_registry.rendering.rendered import command_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.agent.executors.base import Call, Sink, Stream


@dataclass(frozen=True, slots=True)
class MockReply:
    """What a command shall do."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = 0
    output: Any = None
    """Structured output, for methods such as http."""
    delay: timedelta = field(default_factory=timedelta)
    """Pause before each chunk, and before the end."""
    chunk_size: int = 64 * 1024
    outcome: Outcome | None = None
    """Returned as it is, after the output: for failures."""


class MockExecutor:
    """Replies by the pasteable command line, and remembers the calls in ``calls``.

    A command without a reply gets ``default``; without one it fails with NO_MOCK_REPLY.
    """

    def __init__(
        self,
        replies: Mapping[str, MockReply] | None = None,
        *,
        method: str = "command",
        default: MockReply | None = None,
    ) -> None:
        self.method = method
        self.calls: list[Call] = []
        self._replies = dict(replies or {})
        self._default = default

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Plays the reply. See Executor."""
        self.calls.append(call)
        command = command_line(call.rendered)
        reply = self._replies.get(command, self._default)
        if reply is None:
            known = ", ".join(sorted(self._replies)) or "none"
            message = f"no mock reply for {command!r}; there are replies for: {known}"
            return Outcome.refused("NO_MOCK_REPLY", message)
        if cancel.is_set():
            return Outcome.not_begun(call, "cancelled")
        playing = asyncio.create_task(_play(reply, sink))
        try:
            deadline = boottime() + call.timeout.total_seconds()
            what = await wait_end(playing, cancel, deadline)
            if what != "ended":
                return Outcome.stopped(call, what, exit_code=None)
            playing.result()
        finally:
            playing.cancel()
        return reply.outcome or Outcome.ended(call, reply.exit_code, reply.output)

    async def close(self) -> None:
        """Keeps nothing."""


async def _play(reply: MockReply, sink: Sink) -> None:
    pause = reply.delay.total_seconds()
    streams: tuple[tuple[Stream, bytes], ...] = (
        ("stdout", reply.stdout),
        ("stderr", reply.stderr),
    )
    for stream, data in streams:
        for start in range(0, len(data), reply.chunk_size):
            await asyncio.sleep(pause)
            await sink.write(stream, data[start : start + reply.chunk_size])
    await asyncio.sleep(pause)
