"""One control stream: Hello, Welcome, then work and signs of life until it ends."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from opsconductor.agent.fence import stale
from opsconductor.agent.order import Order
from opsconductor.agent.refusal import Refusal
from opsconductor.agent.session import tasks
from opsconductor.agent.session.frames import (
    hello_message,
    hello_reports,
    order_from,
    report_frame,
)
from opsconductor.agent.session.handover import journal_frames
from opsconductor.agent.session.outbox import Outbox, write
from opsconductor.agent.session.poison_frames import UnreadableFrame
from opsconductor.rpc import failpoints
from opsconductor.rpc.errors import OpsConductorError, StaleEpoch, StoreRegressed
from opsconductor.v1 import agent_service_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from opsconductor.agent.fence import Fence
    from opsconductor.agent.report import Report
    from opsconductor.agent.session.shared import Shared

WELCOME_TIMEOUT = 10.0
HANDOVER_TIMEOUT = 60.0
"""Seconds for each answer while the journal is handed over: it may be a long one."""
NONCE_BYTES = 16
ASSIGN_BYTES = 512 * 1024
"""Largest order that is taken."""
_METHOD = "/opsconductor.v1.AgentService/Control"


class SessionLost(OpsConductorError):
    """The orchestrator has been silent for too long."""

    reason = "UNREACHABLE"
    code = "UNAVAILABLE"
    retryable = True


class Overtaken(StaleEpoch):
    """Another connection of this agent was faster; this one only has to be made again."""


class ControlSession:
    """One connection's worth of work."""

    def __init__(self, channel: grpc.aio.Channel, shared: Shared, fence: Fence) -> None:
        # Frames are parsed here, so that one nothing can be made of is not lost.
        self._call: Any = channel.stream_stream(
            _METHOD, pb.AgentFrame.SerializeToString, response_deserializer=None
        )()
        self._shared = shared
        self._worker = shared.worker
        self._fence = fence
        self._outbox = Outbox(self._call)
        self._told: set[str] = set()
        self._beat = 0
        self._superseded = False
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self.replica_id = ""
        """Which orchestrator answered; empty before."""

    async def open(self) -> None:
        """Introduces the agent and accepts the orchestrator, or raises why it may not be obeyed."""
        failpoints.hit("hello.before_send")
        messages, self._told = hello_reports(self._worker.reports())
        known = self._shared.journal.epoch
        sent = time.clock_gettime(time.CLOCK_BOOTTIME)
        async with asyncio.timeout(WELCOME_TIMEOUT):
            hello = hello_message(self._shared.facts(), messages, self._nonce)
            await write(self._call, pb.AgentFrame(hello=hello))
            raw = await self._call.read()
        if raw is grpc.aio.EOF:
            raise SessionLost("the orchestrator ended the stream instead of a Welcome")
        frame = _parsed(raw)
        if frame.WhichOneof("frame") != "welcome":
            raise UnreadableFrame(raw, f"expected a Welcome, got {_name(frame)}")
        welcome = frame.welcome
        self._interval = _seconds(raw, welcome.heartbeat_interval, 5.0)
        self._silence = _seconds(raw, welcome.session_timeout, 20.0)
        await self._accept(welcome, known)
        self._fence.begin(welcome.session_epoch, sent)
        self.replica_id = welcome.replica_id
        self._shared.board.add(self)
        self._shared.endpoints.learn(welcome.endpoints)
        # What ended since the Hello, or was too much for it, has not been told yet.
        for report in self._worker.reports():
            if report.final and report.attempt_id not in self._told:
                self.tell(report)
        if self._worker.draining:
            self.announce_draining()

    async def run(self) -> None:
        """Takes work and sends heartbeats in this one loop, until the stream ends or is silent."""
        loop = asyncio.get_running_loop()
        interval, silence = self._interval, self._silence
        writer = asyncio.create_task(self._outbox.run())
        read = asyncio.create_task(self._call.read())
        heard, beat_at = loop.time(), loop.time() + interval
        try:
            while True:
                wait = max(min(beat_at, heard + silence) - loop.time(), 0.0)
                done, _ = await asyncio.wait(
                    {read, writer}, timeout=wait, return_when=asyncio.FIRST_COMPLETED
                )
                if self._superseded:
                    return
                if writer in done:
                    await self._why_it_ended(writer, read)
                if read in done:
                    if (raw := read.result()) is grpc.aio.EOF:
                        return
                    heard = loop.time()
                    self._take(raw)
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

    def tell(self, report: Report) -> None:
        """Sends a report. See Session."""
        if report.final:
            self._told.add(report.attempt_id)
        self._outbox.put(report_frame(report))

    def forget(self, attempt_id: str) -> None:
        """Sends no more about an attempt. See Session."""
        self._told.discard(attempt_id)
        self._outbox.forget(attempt_id)

    def announce_draining(self) -> None:
        """Tells the orchestrator that no more work is taken."""
        self._outbox.put(pb.AgentFrame(draining=pb.AgentDraining(reason=self._worker.draining)))

    def supersede(self) -> None:
        """Ends the session quietly. See Session."""
        self._superseded = True
        self._call.cancel()

    def close(self) -> None:
        """Ends the stream; attempts go on."""
        self._shared.board.remove(self)
        self._call.cancel()

    async def _accept(self, welcome: pb.Welcome, known: int) -> None:
        journal = self._shared.journal
        if journal.incarnation and welcome.incarnation != journal.incarnation:
            if welcome.restored_from != journal.incarnation:
                raise StoreRegressed(
                    f"the orchestrator's store was replaced: it is {welcome.incarnation}, this "
                    f"agent belongs to {journal.incarnation}. No work is taken. If it was restored "
                    "from an older state, an operator says so with `opsctl agents "
                    "confirm-restore`; if this agent is to work for another store, start it once "
                    f"with --accept-incarnation {welcome.incarnation}"
                )
            await self._hand_over(welcome.incarnation)
        if not journal.incarnation:
            journal.pin_incarnation(welcome.incarnation)
        if known < welcome.session_epoch <= journal.epoch:
            raise Overtaken(
                f"session {welcome.session_epoch} came after {journal.epoch}, opened meanwhile"
            )
        if welcome.session_epoch <= journal.epoch:
            raise StaleEpoch(
                f"session {welcome.session_epoch} came after {journal.epoch}: an old replica "
                "or a store that went back in time"
            )
        await journal.accept_epoch(welcome.session_epoch)

    async def _hand_over(self, incarnation: str) -> None:
        """Tells a restored store all that is remembered, and belongs to it once that is there."""
        journal = self._shared.journal
        for part in journal_frames(journal.history(), self._worker.reports()):
            await write(self._call, part)
        while True:
            async with asyncio.timeout(HANDOVER_TIMEOUT):
                raw = await self._call.read()
            if raw is grpc.aio.EOF:
                raise SessionLost("the stream ended while the journal was handed over")
            frame = _parsed(raw)
            if frame.WhichOneof("frame") == "journal_taken":
                break
            self._take(raw)
        if frame.journal_taken.incarnation != incarnation:
            raise UnreadableFrame(raw, "the journal was taken in by another store")
        journal.pin_incarnation(incarnation)

    def _take(self, raw: bytes) -> None:
        frame = _parsed(raw)
        match frame.WhichOneof("frame"):
            case "assign":
                self._take_assign(frame.assign, raw)
            case "heartbeat":
                self._fence.confirmed(frame.heartbeat.number)
            case "report_ack":
                # Only an end that was told in this session can be on the other side's disk.
                if frame.report_ack.attempt_id in self._told:
                    self._shared.board.acknowledge(frame.report_ack.attempt_id)
            case "cancel":
                self._worker.cancel(frame.cancel.attempt_id, frame.cancel.reason)
            case _:
                raise UnreadableFrame(raw, f"the orchestrator sent {_name(frame)}")

    def _take_assign(self, assign: pb.Assign, raw: bytes) -> None:
        try:
            order = order_from(assign)
            objection = self._objection(order, assign.session_nonce, len(raw))
            self._worker.assign(order, objection)
        except Exception as exc:  # noqa: BLE001 - one order must not end the work on the others
            self._refuse_poison(assign, raw, exc)

    def _objection(self, order: Order, nonce: bytes, size: int) -> Refusal | None:
        if size > ASSIGN_BYTES:
            return Refusal("ASSIGN_TOO_LARGE", f"an order of {size} bytes is above {ASSIGN_BYTES}")
        if order.session_epoch != self._fence.epoch:
            return stale(order, f"session {self._fence.epoch}")
        if nonce != self._nonce:
            return stale(order, f"another session of that number, {self._nonce.hex()[:8]}")
        return None

    def _refuse_poison(self, assign: pb.Assign, raw: bytes, exc: Exception) -> None:
        """Ends the session at the first crash over an order's tool, ends the order at the next."""
        order = Order(
            attempt_id=assign.attempt_id,
            execution_id=assign.execution_id,
            step_id=assign.step_id,
            kind=assign.kind,
            number=assign.number,
            body=assign.body,
            manifest=b"",
            session_epoch=assign.session_epoch,
        )
        refusal = self._shared.poison.crashed(order, exc)
        if refusal.code != "POISON":
            raise UnreadableFrame(raw, f"an order cannot be read: {exc!r}") from exc
        self._worker.assign(order, refusal)

    def _send_heartbeat(self) -> None:
        self._beat += 1
        self._fence.sent(self._beat)
        beat = pb.Heartbeat(number=self._beat, running=self._worker.running)
        self._outbox.put(pb.AgentFrame(heartbeat=beat))


def _parsed(raw: bytes) -> pb.OrchestratorFrame:
    try:
        return pb.OrchestratorFrame.FromString(raw)
    except DecodeError as exc:
        raise UnreadableFrame(
            raw, f"the orchestrator sent something else than a frame: {exc}"
        ) from exc


def _seconds(raw: bytes, duration: Duration, default: float) -> float:
    """Returns a duration of a Welcome; raises UnreadableFrame for one no session can live by."""
    try:
        seconds = duration.ToTimedelta() / timedelta(seconds=1)
    except (OverflowError, ValueError) as exc:
        raise UnreadableFrame(raw, f"a Welcome with an impossible duration: {exc}") from exc
    if not 0 <= seconds <= 3600:
        raise UnreadableFrame(raw, f"a Welcome with a duration of {seconds:g} s")
    return seconds or default


def _name(frame: pb.OrchestratorFrame) -> str:
    return frame.WhichOneof("frame") or "a frame this agent does not know"
