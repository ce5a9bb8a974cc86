"""Sends output on its own stream, opened when there is some, by offset and within a credit."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc

from opsconductor.agent.session import tasks
from opsconductor.agent.session.frames import STREAM_NAMES, STREAM_VALUES
from opsconductor.agent.session.outbox import write
from opsconductor.agent.session.poison_frames import UnreadableFrame
from opsconductor.rpc.errors import NotFound, NotYourAttempt, OutputConflict
from opsconductor.rpc.status import from_rpc_error
from opsconductor.v1 import agent_service_pb2 as pb
from opsconductor.v1 import agent_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from opsconductor.agent.output import Spools

AGENT_CREDIT_BYTES = 16 * 1024 * 1024
"""Most bytes of all attempts that are sent and not yet acknowledged."""
REOPEN_DELAY = 0.5

_log = logging.getLogger(__name__)


class OutputSender:
    """Moves spooled output to the orchestrator for as long as a session lasts.

    Of several sessions one has the turn; when it ends the next goes on at what is stored.
    """

    def __init__(self, channel: grpc.aio.Channel, spools: Spools, turn: asyncio.Lock) -> None:
        self._stub = pb_grpc.AgentServiceStub(channel)
        self._spools = spools
        self._turn = turn
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Waits for its turn, then sends until cancelled.

        A broken stream is opened again from what is acknowledged.
        """
        async with self._turn:
            await self._send_for_ever()

    async def _send_for_ever(self) -> None:
        self._spools.on_output(self._wake.set)
        while True:
            await self._wake.wait()
            for spool in self._spools:
                spool.rewind()
            try:
                await self._send_and_read()
            except grpc.RpcError as exc:
                self._judge(exc)
            await asyncio.sleep(REOPEN_DELAY)
            if any(not (spool.delivered or spool.refused) for spool in self._spools):
                self._wake.set()

    async def _send_and_read(self) -> None:
        call: Any = self._stub.Output()
        sender = asyncio.create_task(self._send(call))
        reader = asyncio.create_task(self._read(call))
        try:
            done, _ = await asyncio.wait({sender, reader}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            # Writing only tells that the stream has ended; reading tells why.
            await reader
        finally:
            call.cancel()
            await tasks.end(sender, reader)

    async def _send(self, call: Any) -> None:
        while True:
            self._wake.clear()
            sent = False
            credit = AGENT_CREDIT_BYTES - self._spools.unacknowledged
            for spool in self._spools:
                piece = spool.next_chunk(credit)
                if piece is None:
                    continue
                stream, offset, data = piece
                credit -= len(data)
                chunk = pb.OutputChunk(
                    attempt_id=spool.attempt_id,
                    stream=STREAM_VALUES[stream],
                    offset=offset,
                    data=data,
                )
                if not await write(call, chunk):
                    return
                sent = True
            if not sent:
                await self._wake.wait()

    async def _read(self, call: Any) -> None:
        while (ack := await call.read()) is not grpc.aio.EOF:
            name = STREAM_NAMES.get(ack.stream)
            if name is None:
                frame = ack.SerializeToString()
                raise UnreadableFrame(frame, f"an acknowledgement of output stream {ack.stream}")
            self._spools.acknowledge(ack.attempt_id, name, ack.stored)

    def _judge(self, exc: grpc.RpcError) -> None:
        error = from_rpc_error(exc)
        attempt_id = error.metadata.get("attempt_id", "")
        if isinstance(error, OutputConflict | NotYourAttempt | NotFound) and attempt_id:
            # One attempt's trouble must not hold up the output of the others.
            _log.error("output of %s is not taken: %s", attempt_id, error.message)
            self._spools.refuse(attempt_id)
            return
        _log.info("the output stream ended: %s", error.message)
