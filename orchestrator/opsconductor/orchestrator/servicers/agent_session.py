"""One agent's control stream on the orchestrator's side."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from google.protobuf import duration_pb2

from opsconductor.v1 import agent_service_pb2 as pb

if TYPE_CHECKING:
    from opsconductor.orchestrator.engine.messages import Assignment

START_TTL_SECONDS = 15
"""An attempt starts within so long after the heartbeat it names, or not at all."""


class AgentSession:
    """Queues frames for an agent; the stream's writer sends them in order."""

    def __init__(self, nonce: bytes = b"") -> None:
        """Takes what the agent's Hello has for this session's orders to carry."""
        self.epoch = 0
        self._nonce = nonce
        self.beat = 0
        """Last heartbeat received from the agent in this session."""
        self._frames: asyncio.Queue[pb.OrchestratorFrame | None] = asyncio.Queue()
        self.closed_because = ""

    def assign(self, assignment: Assignment) -> None:
        """Queues work for the agent."""
        message = pb.Assign(
            attempt_id=assignment.attempt_id,
            execution_id=assignment.execution_id,
            step_id=assignment.step_id,
            kind=assignment.kind,
            number=assignment.number,
            body=assignment.body,
            manifest=assignment.manifest,
            approvals=[
                pb.SignedApproval(statement=item.statement.encode(), signature=item.signature)
                for item in assignment.approvals
            ],
            late_inputs=assignment.late_inputs,
            captured=assignment.captured,
            undoes_attempt_id=assignment.undoes_attempt_id,
            beat=self.beat,
            start_ttl=duration_pb2.Duration(seconds=START_TTL_SECONDS),
            session_epoch=self.epoch,
            traceparent=assignment.traceparent,
            session_nonce=self._nonce,
        )
        self.send(pb.OrchestratorFrame(assign=message))

    def cancel(self, attempt_id: str, reason: str) -> None:
        """Queues the order to take a grant back or to end what runs."""
        message = pb.CancelAttempt(attempt_id=attempt_id, reason=reason)
        self.send(pb.OrchestratorFrame(cancel=message))

    def acknowledge(self, attempt_id: str) -> None:
        """Queues the word that a final report is on disk."""
        self.send(pb.OrchestratorFrame(report_ack=pb.ReportAck(attempt_id=attempt_id)))

    def send(self, frame: pb.OrchestratorFrame) -> None:
        """Queues any frame."""
        self._frames.put_nowait(frame)

    def close(self, reason: str) -> None:
        """Ends the stream after what is queued."""
        self.closed_because = self.closed_because or reason
        self._frames.put_nowait(None)

    async def next(self) -> pb.OrchestratorFrame | None:
        """Returns the next frame to send; None when the stream has to end."""
        return await self._frames.get()
