"""The network between agents and orchestrators: gRPC's calls without sockets.

``Channel`` is what an agent's generated stub calls; each call runs the servicer's handler in the
orchestrator's process. Messages travel as bytes, take their time, and meet what the faults say.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from opsconductor.rpc.errors import Internal, OpsConductorError
from opsconductor.rpc.status import to_status
from opsconductor.v1 import agent_service_pb2 as pb
from simulation.weather import CallContext, Weather

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

    from simulation.virtual_loop import Process, VirtualLoop

KEEPALIVE = 63.0
"""Seconds after which a connection through which nothing passes is given up."""
MESSAGES = {
    "Control": (pb.AgentFrame, pb.OrchestratorFrame),
    "Output": (pb.OutputChunk, pb.OutputAck),
}
END = object()


@dataclass
class Path:
    """The way between one agent and one orchestrator, in each direction."""

    blocked_up: bool = False
    blocked_down: bool = False
    calls: list[Call] = field(default_factory=list)


class Network:
    """All paths."""

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        self.loop = loop
        self.rng = rng
        self.weather = Weather()
        self.paths: dict[tuple[str, str], Path] = {}
        self.servers: dict[str, Server] = {}
        self.on_frame: Callable[[Call, str, Any], None] = lambda call, way, frame: None
        self.on_arrival: Callable[[Call, str, Any], None] = lambda call, way, frame: None
        self.tenants: dict[str, str] = {}
        """Of each agent, as its certificate says."""
        self.calls = 0

    def path(self, agent: str, endpoint: str) -> Path:
        """Returns the path between two ends."""
        return self.paths.setdefault((agent, endpoint), Path())

    def channel(self, process: Process, agent: str, endpoint: str) -> Channel:
        """Opens a channel for an agent's process."""
        return Channel(self, process, agent, endpoint)

    def heal(self) -> None:
        """Lets everything pass again."""
        self.weather = Weather()
        for path in self.paths.values():
            self.unblock(path)

    def unblock(self, path: Path, *, broken: bool = False) -> None:
        """Ends a partition: what waited arrives now, unless the connections are broken by then."""
        path.blocked_up = path.blocked_down = False
        for call in list(path.calls):
            if broken:
                call.abort("the connection was reset")
            else:
                call.release()


@dataclass
class Server:
    """One orchestrator as agents reach it."""

    process: Process
    handlers: dict[str, Callable[[AsyncIterator[Any], Any], AsyncIterator[Any]]]


class Channel:
    """As much of ``grpc.aio.Channel`` as the agent uses."""

    def __init__(self, network: Network, process: Process, agent: str, endpoint: str) -> None:
        self._network = network
        self._process = process
        self._agent = agent
        self._endpoint = endpoint
        self._calls: list[Call] = []

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in self._calls:
            call.cancel()

    def unary_unary(self, path: str, **_: Any) -> Any:
        """Offers a call nobody makes here."""
        return None

    unary_stream = stream_unary = unary_unary

    def stream_stream(
        self,
        path: str,
        request_serializer: object = None,
        response_deserializer: object = None,
        **_: Any,
    ) -> Callable[[], Call]:
        """Offers a call of two streams; without a deserializer its reader gets bytes."""
        name = path.rpartition("/")[2]

        def call() -> Call:
            made = Call(self._network, self._process, self._agent, self._endpoint, name)
            made.raw = response_deserializer is None
            self._calls.append(made)
            return made

        return call


class Call:
    """One bidirectional call, from both ends."""

    def __init__(
        self, network: Network, client: Process, agent: str, endpoint: str, name: str
    ) -> None:
        network.calls += 1
        self.number = network.calls
        self.network = network
        self.agent = agent
        self.endpoint = endpoint
        self.name = name
        self.client = client
        self.server = network.servers.get(endpoint)
        self.ended = False
        self.raw = False
        self.dirty = False
        """Whether a message of it was lost."""
        self.hello_at = 0.0
        self.identity = agent
        self.up = _Pipe(self, "up")
        self.down = _Pipe(self, "down")
        self._path = network.path(agent, endpoint)
        self._path.calls.append(self)
        self._last_passed = network.loop.time()
        self._task: asyncio.Task[Any] | None = None
        if self.server is None or not self.server.process.alive:
            network.loop.later(network.rng.uniform(*network.weather.delay), self.refuse)
        else:
            network.loop.later(network.rng.uniform(*network.weather.delay), self._begin)
            network.loop.later(KEEPALIVE / 2, self._keepalive)

    # The client's end

    async def write(self, message: Any) -> None:
        """Sends a message; InvalidStateError after the end."""
        if self.ended:
            raise asyncio.InvalidStateError("the call has ended")
        self.up.put(message)

    async def read(self) -> Any:
        """Returns the next message, EOF, or raises the status the call ended with."""
        found = await self.down.get()
        if found is END:
            return grpc.aio.EOF
        if isinstance(found, BaseException):
            raise found
        return found.SerializeToString() if self.raw else found

    def cancel(self) -> bool:
        """Ends the call from the client's side."""
        if self.ended:
            return False
        self._end()
        self.down.close(None)
        loop = self.network.loop
        loop.later(self.network.rng.uniform(*self.network.weather.delay), self._cancel_handler)
        return True

    # What the world does to it

    def refuse(self) -> None:
        """There is nobody."""
        self.abort("connection refused")

    def abort(self, why: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        """Breaks the connection; both ends see it."""
        if self.ended:
            return
        self._end()
        self.down.close(_rpc_error(code, why, ()))
        self._cancel_handler()

    def release(self) -> None:
        """Lets what a partition held back go on."""
        self.up.release()
        self.down.release()

    def blocked(self, way: str) -> bool:
        """Tells whether nothing passes in a direction."""
        return self._path.blocked_up if way == "up" else self._path.blocked_down

    def passed(self) -> None:
        """Notes that something arrived."""
        self._last_passed = self.network.loop.time()

    def _keepalive(self) -> None:
        if self.ended:
            return
        if not (self._path.blocked_up or self._path.blocked_down):
            self.passed()
        if self.network.loop.time() - self._last_passed >= KEEPALIVE:
            self.abort("keepalive: nobody answers")
            return
        self.network.loop.later(KEEPALIVE / 4, self._keepalive)

    def _end(self) -> None:
        self.ended = True
        if self in self._path.calls:
            self._path.calls.remove(self)

    # The server's end

    def _begin(self) -> None:
        if self.ended or self.server is None:
            return
        if not self.server.process.alive:
            self.refuse()
            return
        if self._path.blocked_up or self._path.blocked_down:
            self.network.loop.later(1.0, self._begin)
            return
        self._task = self.server.process.spawn(self._handle())
        self._task.add_done_callback(self._handled, context=self.network.loop.kernel.copy())

    async def _handle(self) -> None:
        assert self.server is not None
        handler = self.server.handlers[self.name]
        frames = handler(
            self._requests(), CallContext(self.identity, self.network.tenants[self.identity])
        )
        try:
            async for frame in frames:
                if self.ended:
                    return
                self.down.put(frame)
        finally:
            if inspect.isasyncgen(frames):
                await frames.aclose()

    async def _requests(self) -> AsyncIterator[Any]:
        while True:
            found = await self.up.get()
            if found is END or isinstance(found, BaseException):
                return
            yield found

    def _handled(self, task: asyncio.Task[Any]) -> None:
        if self.ended:
            if not task.cancelled():
                task.exception()
            return
        if task.cancelled():
            self.abort("the server cancelled the call", grpc.StatusCode.CANCELLED)
            return
        error = task.exception()
        self._end()
        if error is None:
            self.down.finish(END)
            return
        if not isinstance(error, OpsConductorError):
            self.network.loop.complaints.append(f"handler {self.name}: {error!r}")
            error = Internal(repr(error))
        status = to_status(error)
        self.down.finish(_rpc_error(status.code, status.message, status.metadata))

    def _cancel_handler(self) -> None:
        if self._task is not None and not self._task.done():
            process = self.server.process if self.server else None
            if process is not None:
                process.do(self._task.cancel)


class _Pipe:
    """One direction of a call; in order, as TCP has it, but for what the faults do."""

    def __init__(self, call: Call, way: str) -> None:
        self._call = call
        self._way = way
        self._kind: Any = MESSAGES[call.name][0 if way == "up" else 1]
        self._arrived: deque[Any] = deque()
        self._held: list[bytes] = []
        self._reader: asyncio.Future[None] | None = None
        self._closed = False
        self._free_at = 0.0

    def put(self, message: Any) -> None:
        """Sends one message on its way."""
        network, call = self._call.network, self._call
        network.on_frame(call, self._way, message)
        data = message.SerializeToString()
        weather, rng = network.weather, network.rng
        if rng.random() < weather.drop:
            call.dirty = True
            return
        self._travel(data, in_order=rng.random() >= weather.reorder)
        if rng.random() < weather.duplicate:
            self._travel(data, in_order=False)

    def inject(self, data: bytes) -> None:
        """Delivers bytes that were recorded before."""
        self._travel(data, in_order=False)

    def _travel(self, data: bytes, *, in_order: bool) -> None:
        network = self._call.network
        loop, weather = network.loop, network.weather
        delay = network.rng.uniform(*weather.delay)
        if network.rng.random() < weather.slow:
            delay += network.rng.uniform(0.1, 8.0)
        at = loop.time() + delay
        if in_order:
            at = self._free_at = max(at, self._free_at)
        loop.later(at - loop.time(), self._arrive, data)

    def _arrive(self, data: bytes) -> None:
        call = self._call
        if self._closed or call.ended:
            return
        if call.blocked(self._way):
            self._held.append(data)
            return
        call.passed()
        message = self._kind.FromString(data)
        call.network.on_arrival(call, self._way, message)
        self._arrived.append(message)
        self._wake()

    def release(self) -> None:
        """Delivers what a partition held back."""
        held, self._held = self._held, []
        for data in held:
            self._arrive(data)

    def finish(self, end: Any) -> None:
        """Says after everything sent that nothing more comes."""
        loop = self._call.network.loop
        at = max(self._free_at, loop.time() + 0.0005)
        loop.later(at - loop.time(), self.close, end)

    def close(self, end: Any) -> None:
        """Ends the direction; ``end`` is what its reader finds, None for a local cancel."""
        if self._closed:
            return
        self._closed = True
        self._arrived.append(asyncio.CancelledError() if end is None else end)
        self._wake()

    async def get(self) -> Any:
        """Returns the next message, or what the direction ended with, again and again."""
        while not self._arrived:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if self._closed and len(self._arrived) == 1:
            return self._arrived[0]
        return self._arrived.popleft()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def _rpc_error(
    code: grpc.StatusCode, message: str, metadata: tuple[tuple[str, bytes], ...]
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), details=message
    )
