"""Events and output of one execution, merged into one stream as they arrive."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Self

from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opsconductor.client.sync_client import SyncClient
    from opsconductor.v1.execution_service_pb2 import ReadOutputResponse, WatchResponse

_QUEUE_ITEMS = 256
"""Room between the connection and a slow terminal; beyond it the server is slowed down."""


_PATIENCE_SECONDS = 0.5
"""How often a reader that waits for room looks whether anybody still reads."""


class _End:
    """Marks the end of one of the streams."""


class Feed:
    """Iterates over events and, if wanted, output; ends when both have ended.

    Daemon threads read the streams, because the synchronous client blocks in each. After ``close``
    they end with the client's channel.
    """

    def __init__(self, client: SyncClient, execution_id: str, *, output: bool) -> None:
        self._items: queue.Queue[WatchResponse | ReadOutputResponse | _End | OpsConductorError] = (
            queue.Queue(_QUEUE_ITEMS)
        )
        streams: list[Iterable[WatchResponse | ReadOutputResponse]] = [client.watch(execution_id)]
        if output:
            streams.append(client.read_output(execution_id, follow=True))
        self._open = len(streams)
        self._closed = False
        for stream in streams:
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True

    def __iter__(self) -> Iterator[WatchResponse | ReadOutputResponse]:
        while self._open:
            item = self._items.get()
            if isinstance(item, OpsConductorError):
                raise item
            if isinstance(item, _End):
                self._open -= 1
            else:
                yield item

    def _read(self, stream: Iterable[WatchResponse | ReadOutputResponse]) -> None:
        try:
            for item in stream:
                if not self._put(item):
                    return
            self._put(_End())
        except OpsConductorError as error:
            self._put(error)
        except ValueError:
            # gRPC's answer to a call on the channel that was closed meanwhile.
            if not self._closed:
                raise

    def _put(self, item: WatchResponse | ReadOutputResponse | _End | OpsConductorError) -> bool:
        """Waits for room; False when nobody reads any more."""
        while not self._closed:
            try:
                self._items.put(item, timeout=_PATIENCE_SECONDS)
            except queue.Full:
                continue
            return True
        return False
