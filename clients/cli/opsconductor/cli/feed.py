"""Events and output of one execution, merged into one stream as they arrive."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opsconductor.client.sync_client import SyncClient
    from opsconductor.v1.execution_service_pb2 import ReadOutputResponse, WatchResponse

_QUEUE_ITEMS = 256
"""Room between the connection and a slow terminal; beyond it the server is slowed down."""


class _End:
    """Marks the end of one of the streams."""


class Feed:
    """Iterates over events and, if wanted, output; ends when both have ended.

    Two daemon threads read the streams, because the synchronous client blocks in each. They end
    with the client's channel.
    """

    def __init__(self, client: SyncClient, execution_id: str, *, output: bool) -> None:
        self._items: queue.Queue[WatchResponse | ReadOutputResponse | _End | OpsConductorError] = (
            queue.Queue(_QUEUE_ITEMS)
        )
        streams: list[Iterable[WatchResponse | ReadOutputResponse]] = [client.watch(execution_id)]
        if output:
            streams.append(client.read_output(execution_id, follow=True))
        self._open = len(streams)
        for stream in streams:
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()

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
                self._items.put(item)
        except OpsConductorError as error:
            self._items.put(error)
        else:
            self._items.put(_End())
