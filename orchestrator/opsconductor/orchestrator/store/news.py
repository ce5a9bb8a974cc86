"""News: what a transaction changed that other orchestrators may want to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opsconductor.orchestrator.store import base, sharing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FOR_ALL = (
    base.PutAgent,
    base.OpenSession,
    base.ChangeAgent,
    base.BumpSessionEpoch,
    base.SetMeta,
    base.DropMeta,
    base.PutAsset,
    base.DeleteAsset,
    sharing.PutSessions,
)
"""Operations on what every orchestrator keeps in memory: others have to read it again."""
_ABOUT_REPLICAS = (sharing.JoinReplicas, sharing.LeaveReplicas, sharing.PassLease)
_IDS_LIMIT = 100
"""A notification holds less than 8,000 bytes."""


@dataclass(frozen=True, slots=True)
class News:
    """What somebody says was written."""

    executions: tuple[str, ...] = ()
    """These have new events."""
    locks: bool = False
    """Some were given back."""
    around: bool = False
    """Replicas or leases changed, or what every orchestrator keeps in memory."""

    def text(self) -> str:
        """Returns it as one line."""
        words = ["l"] * self.locks + ["a"] * self.around
        return f"{''.join(words) or '-'} {' '.join(self.executions)}"

    @classmethod
    def read(cls, text: str) -> News:
        """Reads one line of ``text``."""
        flags, _, ids = text.partition(" ")
        return cls(tuple(ids.split()), locks="l" in flags, around="a" in flags)


def news_of(calls: Sequence[base.Call], outcomes: Sequence[base.Outcome]) -> Iterator[News]:
    """Returns what calls that happened changed, in pieces that a notification can hold."""
    done = [
        op
        for call, outcome in zip(calls, outcomes, strict=True)
        if isinstance(outcome, list)
        for op in call
    ]
    ids = list(dict.fromkeys(op.execution_id for op in done if isinstance(op, base.AppendEvents)))
    locks = _any(done, (sharing.FreeHolds,))
    around = _any(done, (*FOR_ALL, *_ABOUT_REPLICAS))
    for first in range(0, len(ids), _IDS_LIMIT):
        yield News(tuple(ids[first : first + _IDS_LIMIT]), locks=locks, around=around)
    if not ids and (locks or around):
        yield News(locks=locks, around=around)


def _any(ops: Iterable[base.Op], kinds: tuple[type, ...]) -> bool:
    return any(isinstance(op, kinds) for op in ops)
