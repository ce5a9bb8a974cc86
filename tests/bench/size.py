"""How much is measured: the whole, or only enough to see that it works."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Size:
    """Counts and repetitions of every job."""

    floor: int
    """Samples of each floor."""
    single: int
    """J1: plans one after the other."""
    burst: int
    """J2: plans with ten at a time."""
    burst_repeats: int
    steps: int
    """J3: steps of a plan."""
    steps_repeats: int
    hosts: int
    """J4: SSH hosts."""
    hosts_repeats: int

    def as_arguments(self) -> dict[str, int]:
        """Returns the counts, for a peer's process."""
        return asdict(self)


FULL = Size(
    floor=400,
    single=200,
    burst=1000,
    burst_repeats=3,
    steps=50,
    steps_repeats=3,
    hosts=50,
    hosts_repeats=5,
)
SHORT = Size(
    floor=50,
    single=10,
    burst=20,
    burst_repeats=1,
    steps=5,
    steps_repeats=1,
    hosts=4,
    hosts_repeats=1,
)
CONCURRENCY = 10
