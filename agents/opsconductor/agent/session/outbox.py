"""What waits to be written to a stream; one write is under way at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import grpc

from opsconductor.rpc import failpoints

if TYPE_CHECKING:
    from opsconductor.v1 import agent_service_pb2 as pb


class Outbox:
    """Writes frames in the order they were put in."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._frames: deque[pb.AgentFrame] = deque()
        self._wake = asyncio.Event()

    def put(self, frame: pb.AgentFrame) -> None:
        """Sends a frame when those before it are sent."""
        self._frames.append(frame)
        self._wake.set()

    def forget(self, attempt_id: str) -> None:
        """Takes back reports about an attempt that are not sent yet."""
        about = [each for each in self._frames if each.report.attempt_id == attempt_id]
        for frame in about:
            self._frames.remove(frame)

    async def run(self) -> None:
        """Writes until cancelled or the stream has ended."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._frames:
                frame = self._frames.popleft()
                if frame.HasField("report"):
                    failpoints.hit("report.before_send")
                if not await write(self._call, frame):
                    return


async def write(call: Any, message: Any) -> bool:
    """Writes to a stream; returns whether it still took it. Why it ended is told by reading."""
    try:
        await call.write(message)
    except (asyncio.InvalidStateError, grpc.RpcError):
        return False
    return True
