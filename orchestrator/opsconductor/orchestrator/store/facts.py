"""Facts of an agent: changed one by one in the transaction, so that no writer undoes another's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from opsconductor.rpc import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

Path: TypeAlias = tuple[str, ...]
Changes: TypeAlias = "Mapping[Path, Any]"
"""What becomes of a value by the keys that lead to it; None takes it away."""


def read(data: bytes | None) -> dict[str, Any]:
    """Returns the facts of a row; none for an agent that never said anything."""
    facts = canonical.loads(data) if data else {}
    return facts if isinstance(facts, dict) else {}


def changed(data: bytes | None, changes: Changes) -> bytes:
    """Returns a row's facts with changes made in their order."""
    facts = read(data)
    for (*parents, name), value in changes.items():
        place = facts
        for parent in parents:
            inner = place.get(parent)
            if not isinstance(inner, dict):
                inner = place[parent] = {}
            place = inner
        if value is None:
            place.pop(name, None)
        else:
            place[name] = value
    return canonical.dumps(facts)
