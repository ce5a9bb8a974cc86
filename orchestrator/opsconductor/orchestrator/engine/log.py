"""Events on their way to the store: JSON, numbered, hash-chained; and what they say to people."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.store.rows import StoredEvent
from opsconductor.rpc import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CHAIN_DOMAIN = b"opsc/audit/1\0"
GENESIS = ""
"""The hash before the first event of a chain."""


def chain(
    previous: str, execution_id: str, recorded: Iterable[ev.Recorded]
) -> tuple[tuple[StoredEvent, ...], str]:
    """Returns events as the store keeps them, and the new head.

    The hash of an event is SHA-256 over the domain, the hash before it, and the canonical JSON of
    {execution_id, seq, time, type, data}: no event can be altered, moved or left out unseen.
    """
    stored = []
    for item in recorded:
        name = ev.name_of(item.event)
        data = canonical.dumps(ev.to_json(item.event))
        frame = {"execution_id": execution_id, "seq": item.seq, "time": item.at.isoformat()}
        # "data" sorts before the other keys, so what is serialised already can stand there as is.
        line = b'{"data":' + data + b"," + canonical.dumps({**frame, "type": name})[1:]
        previous = hashlib.sha256(CHAIN_DOMAIN + previous.encode() + line).hexdigest()
        stored.append(StoredEvent(item.seq, name, item.at, data, previous))
    return tuple(stored), previous


def read(stored: Sequence[StoredEvent]) -> list[ev.Recorded]:
    """Returns stored events as the domain knows them."""
    return [
        ev.Recorded(item.seq, item.time, ev.from_json(item.type, canonical.loads(item.data)))
        for item in stored
    ]
