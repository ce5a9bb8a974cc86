"""Chains: events are only added to what their writer knows to be written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from opsconductor.orchestrator.store.base import AppendEvents, ChainBroken

if TYPE_CHECKING:
    from sqlalchemy import Connection

# One text for any number of keys, so that the database prepares it once.
_FOUND = {
    "sqlite": text(
        "SELECT e.execution_id, e.seq, e.hash FROM json_each(:keys) k "
        "JOIN events e ON e.execution_id = k.value ->> 0 AND e.seq = k.value ->> 1"
    ),
    "postgresql": text(
        "SELECT e.execution_id, e.seq, e.hash "
        "FROM unnest(CAST(:ids AS text[]), CAST(:seqs AS integer[])) AS k (id, seq) "
        "JOIN events e ON e.execution_id = k.id AND e.seq = k.seq"
    ),
}


class Chains:
    """The events of one transaction, each of which needs the one before it.

    A database may lose commits while we run: a failover to a replica that lagged behind, a restore.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._needed: dict[tuple[str, int], str] = {}
        self._added: dict[tuple[str, int], str] = {}

    def add(self, op: AppendEvents) -> None:
        """Takes events that will be written."""
        before = (op.execution_id, op.events[0].seq - 1)
        if before[1] and (before not in self._added or self._added[before] != op.after):
            self._needed[before] = op.after
        self._added.update(((op.execution_id, item.seq), item.hash) for item in op.events)

    def check(self) -> None:
        """Raises ChainBroken for events whose predecessor is not there, or is another."""
        if not self._needed:
            return
        keys = list(self._needed)
        found = {(row[0], row[1]): row[2] for row in self._find(keys)}
        for key in keys:
            hash_ = self._added.get(key) or found.get(key)
            if hash_ is None or self._needed[key] not in ("", hash_):
                raise ChainBroken(*key)
        self._needed = {}

    def _find(self, keys: list[tuple[str, int]]) -> Any:
        kind = self._connection.dialect.name
        if kind == "sqlite":
            parameters: dict[str, Any] = {"keys": json.dumps(keys)}
        else:
            parameters = {"ids": [key[0] for key in keys], "seqs": [key[1] for key in keys]}
        return self._connection.execute(_FOUND[kind], parameters)
