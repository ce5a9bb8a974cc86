"""A seed makes a schedule: which faults, in which order, over which plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.cells import AT_TAKE_OVER, NEEDS, PLACES, Cell
from chaos.faults import ALL_KINDS, BASE, FAULTS

if TYPE_CHECKING:
    from random import Random

ACTIONS = ("kill9", "stop", "raise")
COMMON = ("kill_orchestrator", "kill_agent", "kill_step", "kill_supervisor", "kill_everything")
"""Drawn three times as often as the others."""


@dataclass(frozen=True)
class Round:
    """One injection and the plans that run during it."""

    fault: str
    kinds: tuple[str, ...]
    cell: Cell | None = None


def points(where: str) -> list[str]:
    """Returns the failpoints of one kind of process: agent, orchestrator, or replica."""
    if where == "replica":
        return sorted(AT_TAKE_OVER)
    return sorted(name for name in PLACES.keys() - AT_TAKE_OVER if PLACES[name] == where)


def cells(random: Random, where: str, actions: tuple[str, ...]) -> list[Round]:
    """Returns every failpoint of one kind of process with every action once."""
    rounds = []
    for action in actions:
        for point in points(where):
            cell = Cell(point, action, random.choice((1, 1, 2)) if point not in NEEDS else 1)
            kinds = NEEDS.get(point, (*BASE, random.choice(ALL_KINDS)))
            rounds.append(Round(cell.name, tuple(kinds), cell))
    return rounds


def random_rounds(random: Random, count: int, names: tuple[str, ...] = ()) -> list[Round]:
    """Returns injections drawn by weight."""
    among = names or tuple(sorted(FAULTS))
    weights = [3 if name in COMMON else 1 for name in among]
    return [
        Round(name, tuple(random.choices(ALL_KINDS, k=3)))
        for name in random.choices(among, weights, k=count)
    ]
