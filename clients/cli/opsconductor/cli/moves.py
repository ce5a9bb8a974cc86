"""Tells that opsctl has gone on at another orchestrator of the deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opsconductor.client.sync_client import SyncClient

_Item = TypeVar("_Item")


class Moves:
    """Says once when the client has gone on at another endpoint."""

    def __init__(self, client: SyncClient, say: Callable[[str], None]) -> None:
        self._client = client
        self._say = say
        self._endpoint = client.endpoint
        self._told = False

    def look(self) -> None:
        """Tells a move that has not been told."""
        now = self._client.endpoint
        if now != self._endpoint and not self._told:
            self._told = True
            self._say(f"lost the orchestrator at {self._endpoint}; going on at {now}")

    def beside(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yields the items of a stream, telling a move before what came after it."""
        first = True
        for item in items:
            if first:
                # Until the first answer the client was only looking for who is there.
                self._endpoint, first = self._client.endpoint, False
            self.look()
            yield item
