"""One control stream: Hello, Welcome, then work and signs of life until it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from opsconductor.agent.session import tasks
from opsconductor.agent.session.frames import (
    hello_message,
    hello_reports,
    order_from,
    report_frame,
)
from opsconductor.agent.session.outbox import Outbox, write
from opsconductor.rpc import failpoints
from opsconductor.rpc.errors import OpsConductorError, ProtocolError, StaleEpoch, StoreRegressed
from opsconductor.v1 import agent_service_pb2 as pb
from opsconductor.v1 import agent_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsconductor.agent.fence import Fence
    from opsconductor.agent.journal import Journal
    from opsconductor.agent.report import Report
    from opsconductor.agent.worker import Worker

WELCOME_TIMEOUT = 10.0
_log = logging.getLogger(__name__)


class SessionLost(OpsConductorError):
    """The orchestrator has been silent for too long."""

    reason = "UNREACHABLE"
    code = "UNAVAILABLE"
    retryable = True


class ControlSession:
    """One connection's worth of work."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        worker: Worker,
        journal: Journal,
        fence: Fence,
        facts: Callable[[], dict[str, Any]],
    ) -> None:
        self._call: Any = pb_grpc.AgentServiceStub(channel).Control()
        self._worker = worker
        self._journal = journal
        self._fence = fence
        self._facts = facts
        self._outbox = Outbox(self._call)
        self._told: set[str] = set()
        self._beat = 0

    async def open(self) -> None:
        """Introduces the agent and accepts the orchestrator, or raises why it may not be obeyed."""
        failpoints.hit("hello.before_send")
        messages, self._told = hello_reports(self._worker.reports())
        sent = time.clock_gettime(time.CLOCK_BOOTTIME)
        async with asyncio.timeout(WELCOME_TIMEOUT):
            await write(self._call, pb.AgentFrame(hello=hello_message(self._facts(), messages)))
            frame = await self._call.read()
        if frame is grpc.aio.EOF or frame.WhichOneof("frame") != "welcome":
            raise ProtocolError(f"expected a Welcome, got {_name(frame)}")
        self._welcome: pb.Welcome = frame.welcome
        await self._accept(frame.welcome)
        self._fence.begin(frame.welcome.session_epoch, sent)
        self._worker.connect(self._tell)
        # What ended since the Hello, or was too much for it, has not been told yet.
        for report in self._worker.reports():
            if report.final and report.attempt_id not in self._told:
                self._tell(report)
        if self._worker.draining:
            self.announce_draining()

    async def run(self) -> None:
        """Takes work and sends heartbeats in this one loop, until the stream ends or is silent."""
        loop = asyncio.get_running_loop()
        interval = self._welcome.heartbeat_interval.ToTimedelta().total_seconds() or 5.0
        silence = self._welcome.session_timeout.ToTimedelta().total_seconds() or 20.0
        writer = asyncio.create_task(self._outbox.run())
        read = asyncio.create_task(self._call.read())
        heard, beat_at = loop.time(), loop.time() + interval
        try:
            while True:
                wait = max(min(beat_at, heard + silence) - loop.time(), 0.0)
                done, _ = await asyncio.wait(
                    {read, writer}, timeout=wait, return_when=asyncio.FIRST_COMPLETED
                )
                if writer in done:
                    await self._why_it_ended(writer, read)
                if read in done:
                    if (frame := read.result()) is grpc.aio.EOF:
                        return
                    heard = loop.time()
                    self._take(frame)
                    read = asyncio.create_task(self._call.read())
                if loop.time() >= beat_at:
                    self._send_heartbeat()
                    beat_at = loop.time() + interval
                if loop.time() - heard >= silence:
                    raise SessionLost(f"the orchestrator has been silent for {silence:g} s")
        finally:
            await tasks.end(read, writer)

    async def _why_it_ended(self, writer: asyncio.Task[None], read: asyncio.Task[Any]) -> NoReturn:
        writer.result()
        await asyncio.wait_for(read, WELCOME_TIMEOUT)
        raise SessionLost("the stream ended while it was written to")

    def announce_draining(self) -> None:
        """Tells the orchestrator that no more work is taken."""
        self._outbox.put(pb.AgentFrame(draining=pb.AgentDraining(reason=self._worker.draining)))

    def close(self) -> None:
        """Ends the stream; attempts go on."""
        self._worker.disconnect()
        self._call.cancel()

    async def _accept(self, welcome: pb.Welcome) -> None:
        journal = self._journal
        if journal.incarnation and welcome.incarnation != journal.incarnation:
            raise StoreRegressed(
                f"the orchestrator's store was replaced: it is {welcome.incarnation}, this agent "
                f"belongs to {journal.incarnation}. No work is taken. If this was meant, start the "
                f"agent once with --accept-incarnation {welcome.incarnation}"
            )
        if not journal.incarnation:
            journal.pin_incarnation(welcome.incarnation)
        if welcome.session_epoch <= journal.epoch:
            raise StaleEpoch(
                f"session {welcome.session_epoch} came after {journal.epoch}: an old replica "
                "or a store that went back in time"
            )
        await journal.accept_epoch(welcome.session_epoch)

    def _take(self, frame: pb.OrchestratorFrame) -> None:
        match frame.WhichOneof("frame"):
            case "assign":
                self._worker.assign(order_from(frame.assign))
            case "heartbeat":
                self._fence.confirmed(frame.heartbeat.number)
            case "report_ack":
                # Only an end that was told in this session can be on the other side's disk.
                if frame.report_ack.attempt_id in self._told:
                    self._told.discard(frame.report_ack.attempt_id)
                    self._worker.acknowledge(frame.report_ack.attempt_id)
            case "cancel":
                self._worker.cancel(frame.cancel.attempt_id, frame.cancel.reason)
            case _:
                raise ProtocolError(f"the orchestrator sent {_name(frame)}")

    def _tell(self, report: Report) -> None:
        if report.final:
            self._told.add(report.attempt_id)
        self._outbox.put(report_frame(report))

    def _send_heartbeat(self) -> None:
        self._beat += 1
        self._fence.sent(self._beat)
        beat = pb.Heartbeat(number=self._beat, running=self._worker.running)
        self._outbox.put(pb.AgentFrame(heartbeat=beat))


def _name(frame: Any) -> str:
    if frame is grpc.aio.EOF:
        return "the end of the stream"
    return frame.WhichOneof("frame") or "a frame this agent does not know"
