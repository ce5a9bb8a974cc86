"""Worlds of their own kind: another store, a small disk, a store that goes back in time."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.schedule import Round
from chaos.world import LEASE, PATIENT, World
from helpers import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random


@dataclass(frozen=True)
class Scenario:
    """A kind of world and the faults that only it can have."""

    name: str
    faults: tuple[str, ...]
    weight: float
    """How many of its rounds there are, as a share of the random injections elsewhere."""

    def rounds(self, random: Random, count: int) -> list[Round]:
        """Returns its part of a schedule; at least one round of each fault."""
        total = max(len(self.faults), round(count * self.weight))
        names = [*self.faults, *random.choices(self.faults, k=total - len(self.faults))]
        return [Round(name, tuple(random.choices(_KINDS, k=3))) for name in names]


_KINDS = ("chain", "graph", "rollback", "retry", "read", "talk", "cancel")

PLAIN = Scenario("plain", (), 0.0)
POSTGRES = Scenario(
    "postgres", ("database_restart", "database_disconnects", "kill_orchestrator"), 0.2
)
RESTORE = Scenario("restore", ("restore", "restore"), 0.06)
DISK = Scenario("disk", ("disk_full",), 0.08)
REPLICAS = Scenario(
    "replicas",
    ("kill_replica", "freeze_replica", "rolling_restart", "kill_agent", "database_restart"),
    0.2,
)
ROLLING = Scenario("rolling", (), 0.0)
TRICKS = Scenario("tricks", ("replayed_approval", "late_start"), 0.04)
SCENARIOS = {
    each.name: each for each in (PLAIN, POSTGRES, REPLICAS, ROLLING, RESTORE, DISK, TRICKS)
}

_ON_POSTGRES = (POSTGRES, REPLICAS, ROLLING)


def left_out(scenario: Scenario) -> str:
    """Returns why a scenario cannot be here; empty when it can."""
    if scenario in _ON_POSTGRES and postgres.binaries() is None:
        return postgres.HINT
    if scenario is DISK and os.geteuid() != 0:
        return "only root may mount the small file system that fills up"
    return ""


@contextlib.contextmanager
def world_of(scenario: Scenario, folder: Path, random: Random) -> Iterator[World]:
    """Yields the world of a scenario, not yet up."""
    with contextlib.ExitStack() as stack:
        cluster = None
        if scenario in _ON_POSTGRES:
            cluster = stack.enter_context(postgres.private_cluster())
        replicas = 3 if scenario in (REPLICAS, ROLLING) else 1
        lease = PATIENT if scenario is TRICKS else LEASE
        yield World(
            folder,
            random,
            cluster=cluster,
            tmpfs=scenario is DISK,
            replicas=replicas,
            lease=lease,
        )
