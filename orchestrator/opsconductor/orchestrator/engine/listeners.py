"""Who waits for news of an execution; a hint only, the store is the truth."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL = 1.0  # seconds; notifications are hints, the store is the truth


async def heard_within(news: asyncio.Event, seconds: float = POLL) -> bool:
    """Waits for news, for a while; clears it and tells whether there was any."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await news.wait()
    heard = news.is_set()
    news.clear()
    return heard


class Listeners:
    """Wakes watchers of executions."""

    def __init__(self) -> None:
        self._events: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def notify(self, execution_id: str) -> None:
        """Wakes everyone who watches an execution."""
        for event in self._events.get(execution_id, ()):
            event.set()

    @contextmanager
    def watch(self, execution_id: str) -> Iterator[asyncio.Event]:
        """Gives an event that is set whenever there may be news; the watcher clears it."""
        event = asyncio.Event()
        self._events[execution_id].add(event)
        try:
            yield event
        finally:
            watchers = self._events[execution_id]
            watchers.discard(event)
            if not watchers:
                del self._events[execution_id]
