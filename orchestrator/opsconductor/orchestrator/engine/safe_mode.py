"""Safe mode as the store keeps it: why nothing is granted, and what is still awaited."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from opsconductor.rpc import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

SAFE_MODE = "safe_mode"
"""Key in ``meta``: how things stand after the store went back; empty when it is trusted."""
LINEAGE = "lineage"
"""Key in ``meta``: incarnations that an operator has replaced by the present one."""
AWAITED = "awaited/"
"""Begin of keys in ``meta``: an agent's journal is awaited by the incarnation that is the value.

One value for each: who takes a journal in must not write down again what others have taken in.
"""
LOST = "lost/"
"""Begin of keys in ``meta``: what was done and the incarnation that is the value does not know."""
LOST_SHOWN = 100


@dataclass(frozen=True)
class SafeMode:
    """Why nothing is granted."""

    reason: str
    since: str
    confirmed: bool = False
    """Whether an operator has said that the store was restored; journals are awaited then."""
    awaited: tuple[str, ...] = ()
    """Ids of agents whose journals have not been taken in."""
    seen: tuple[str, ...] = ()
    """Incarnations that agents belong to and this store does not know."""
    lost: tuple[str, ...] = ()
    """Attempts in agents' journals of executions that this store does not know, in words."""

    @classmethod
    def read(cls, text: str | None) -> SafeMode | None:
        """Reads what ``write`` made; None when the store is trusted."""
        if not text:
            return None
        data = canonical.loads(text.encode())
        return cls(
            reason=data["reason"],
            since=data["since"],
            confirmed=data["confirmed"],
            seen=tuple(data["seen"]),
        )

    def write(self) -> str:
        """Returns as text what is not kept in values of its own."""
        data = asdict(self)
        del data["awaited"], data["lost"]
        return canonical.dumps(data).decode()


def mode_of(values: Mapping[str, str], incarnation: str) -> SafeMode | None:
    """Returns how things stand; a restore that was confirmed is over when nothing is awaited."""
    mode = SafeMode.read(values.get(SAFE_MODE))
    if mode is None:
        return None
    awaited, lost = (
        tuple(
            key.removeprefix(begin)
            for key, value in sorted(values.items())
            if key.startswith(begin) and value == incarnation
        )
        for begin in (AWAITED, LOST)
    )
    if mode.confirmed and not awaited:
        return None
    return replace(mode, awaited=awaited, lost=lost[:LOST_SHOWN])
