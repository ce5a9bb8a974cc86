"""What a run is made of, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulation import faults as faulty

if TYPE_CHECKING:
    from simulation.evidence import Violation
    from simulation.faults import Fault

SPAN = 60.0
"""Seconds in which plans come and faults strike."""


@dataclass(frozen=True)
class Scenario:
    """What a seed is to be run with."""

    seed: int
    span: float = SPAN
    kinds: tuple[str, ...] = faulty.ALL_KINDS
    swarm: bool = True
    """Whether only some kinds of faults strike, drawn from the seed; else all, and often."""
    without: frozenset[int] = frozenset()
    """Numbers of faults that are left out, for shrinking."""
    max_events: int = 0
    orchestrators: int = 0
    """How many there are; 0 lets the seed say."""


@dataclass
class Verdict:
    """What became of a run."""

    scenario: Scenario
    violation: Violation | None
    events: int
    callbacks: int
    plans: int
    faults: list[Fault]
    hash: str
    counts: dict[str, int]
    trace: list[tuple[float, str]]
    complaints: list[str] = field(default_factory=list)
    faults_met: int = 0
    """Faults that struck before the end."""
    seconds: float = 0.0
