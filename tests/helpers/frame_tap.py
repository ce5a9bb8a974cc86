"""A way between an agent and its orchestrator on which frames are written down and sent again.

It speaks mTLS to both with their own certificates, so that each believes to speak with the other.
Frames pass as bytes: what is sent again is what was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc

from opsconductor.agent.session.enroll import AgentCertificates
from opsconductor.orchestrator.pki import CertificateAuthority
from opsconductor.rpc.channel import server_credentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CONTROL = "/opsconductor.v1.AgentService/Control"

_Queue = asyncio.Queue[bytes | None]


@dataclass
class Session:
    """One control stream: what passed, and ways to say more to both sides."""

    to_agent: list[bytes] = field(default_factory=list)
    """What the orchestrator sent, in its order; nothing that was said again."""
    to_orchestrator: list[bytes] = field(default_factory=list)
    over: bool = False
    _agent: _Queue = field(default_factory=asyncio.Queue)
    _orchestrator: _Queue = field(default_factory=asyncio.Queue)

    def tell_agent(self, frame: bytes) -> None:
        """Sends the agent a frame the orchestrator did not send now."""
        self._agent.put_nowait(frame)

    def tell_orchestrator(self, frame: bytes) -> None:
        """Sends the orchestrator a frame the agent did not send now."""
        self._orchestrator.put_nowait(frame)

    async def run(self, said_by_agent: AsyncIterator[bytes], call: Any) -> AsyncIterator[bytes]:
        """Carries frames both ways until either side ends; yields those for the agent."""
        call = call(_frames(self._orchestrator))
        carrying = [
            asyncio.create_task(_carry(said_by_agent, self.to_orchestrator, self._orchestrator)),
            asyncio.create_task(_carry(call, self.to_agent, self._agent)),
        ]
        try:
            async for frame in _frames(self._agent):
                yield frame
            carrying[1].result()
        finally:
            self.over = True
            call.cancel()
            for task in carrying:
                task.cancel()
            await asyncio.gather(*carrying, return_exceptions=True)


class FrameTap(grpc.GenericRpcHandler):
    """Stands between the agents of one certificate authority and an orchestrator."""

    def __init__(self, pki: Path, agent: Path, orchestrator: str) -> None:
        """Takes the keys of both sides.

        Args:
            pki: The folder of the authority.
            agent: The folder of the agent.
            orchestrator: Where the orchestrator listens.
        """
        now = datetime.now(UTC)
        authority = CertificateAuthority.load_or_create(pki, now=now)
        certificate = authority.server_certificate(now=now)
        self.sessions: list[Session] = []
        self.first_words: bytes | None = None
        """What the next session of the agent begins with, instead of anything true."""
        self._channel = AgentCertificates(agent).open_channel(orchestrator)
        self._server = grpc.aio.server(handlers=[self])
        credentials = server_credentials(lambda: certificate, authority.certificate_pem)
        self.port = self._server.add_secure_port("127.0.0.1:0", credentials)

    @property
    def endpoint(self) -> str:
        """Where agents find it."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> FrameTap:
        """Begins to take calls."""
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cuts every connection."""
        await self._server.stop(None)
        await self._channel.close()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Returns what carries a method; every one is a stream of bytes here."""
        method = str(details.method)

        async def behaviour(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            session = Session()
            if method == CONTROL:
                if (words := self.first_words) is not None:
                    self.first_words = None
                    await anext(requests)
                    yield words
                    async for _ in requests:
                        pass
                    return
                self.sessions.append(session)
            try:
                async for frame in session.run(requests, self._channel.stream_stream(method)):
                    yield frame
            except grpc.aio.AioRpcError as error:
                with contextlib.suppress(grpc.aio.UsageError):
                    await context.abort(error.code(), error.details(), error.trailing_metadata())

        return grpc.stream_stream_rpc_method_handler(behaviour)


async def _carry(source: AsyncIterator[bytes], kept: list[bytes], queue: _Queue) -> None:
    try:
        async for frame in source:
            kept.append(frame)
            queue.put_nowait(frame)
    finally:
        queue.put_nowait(None)


async def _frames(queue: _Queue) -> AsyncIterator[bytes]:
    while (frame := await queue.get()) is not None:
        yield frame
