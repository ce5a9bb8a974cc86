"""Worlds of their own kind: another store, a small disk, networks that come apart."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from chaos.disks import mount_refused
from chaos.namespaces import refused
from chaos.schedule import Round
from chaos.world import LEASE, PATIENT, World
from helpers import fake_time, postgres

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Scenario:
    """A kind of world and the faults that only it can have."""

    name: str
    faults: tuple[str, ...] = ()
    share: float = 0.0
    """How many of all random injections are made here."""
    on_postgres: bool = False
    replicas: int = 1
    lease: float = LEASE
    options: Mapping[str, Any] = field(default_factory=dict)
    """What its world is made with, beside the folder and the seed."""

    def rounds(self, random: Random, count: int) -> list[Round]:
        """Returns its part of a schedule of some size; at least one round of each fault."""
        total = max(len(self.faults), round(count * self.share))
        names = [*self.faults, *random.choices(self.faults, k=total - len(self.faults))]
        return [Round(name, tuple(random.choices(_KINDS, k=3))) for name in names]


_KINDS = ("chain", "graph", "rollback", "retry", "read", "talk", "cancel")

PLAIN = Scenario("plain")
POSTGRES = Scenario(
    "postgres",
    ("database_restart", "database_disconnects", "kill_orchestrator"),
    share=0.10,
    on_postgres=True,
)
REPLICAS = Scenario(
    "replicas",
    ("kill_replica", "freeze_replica", "rolling_restart", "kill_agent", "database_restart"),
    share=0.12,
    on_postgres=True,
    replicas=3,
)
ROLLING = Scenario("rolling", on_postgres=True, replicas=3)
RESTORE = Scenario("restore", ("restore", "restore"), share=0.04)
RESTORE_POSTGRES = Scenario(
    "restore-postgres", ("restore", "restore"), share=0.03, on_postgres=True
)
DISK = Scenario("disk", ("disk_full", "store_full"), share=0.06, options={"small_disks": True})
CABLES = Scenario(
    "cables",
    (
        *("cable_pulled", "cable_pulled_of_one", "cable_flaps"),
        *("sent_is_lost", "received_is_lost", "cancel_while_apart"),
    ),
    share=0.10,
    options={"namespaces": True},
)
CLOCKS = Scenario(
    "clocks",
    ("agent_clock_jump", "orchestrator_clock_jump", "common_clock_jump"),
    share=0.05,
    options={"time_library": True},
)
TRICKS = Scenario("tricks", ("replayed_approval", "late_start"), share=0.03, lease=PATIENT)
SCENARIOS = {
    each.name: each
    for each in (
        *(PLAIN, POSTGRES, REPLICAS, ROLLING, RESTORE, RESTORE_POSTGRES),
        *(DISK, CABLES, CLOCKS, TRICKS),
    )
}


@dataclass(frozen=True)
class Absence:
    """Why a scenario is not here."""

    why: str
    installable: bool = False
    """Whether a package would make it possible."""


def absence(scenario: Scenario) -> Absence | None:
    """Returns why a scenario cannot be here; None when it can."""
    if scenario.on_postgres and postgres.binaries() is None:
        return Absence(postgres.HINT, installable=True)
    if scenario is CLOCKS and fake_time.library() is None:
        return Absence(fake_time.HINT, installable=True)
    why = ""
    if scenario is DISK:
        why = mount_refused()
    elif scenario is CABLES:
        why = refused(Random())
    return Absence(why) if why else None


@contextlib.contextmanager
def world_of(scenario: Scenario, folder: Path, random: Random) -> Iterator[World]:
    """Yields the world of a scenario, not yet up."""
    options = dict(scenario.options)
    if options.pop("time_library", False):
        options["time_library"] = fake_time.library()
    with contextlib.ExitStack() as stack:
        cluster = None
        if scenario.on_postgres:
            cluster = stack.enter_context(postgres.private_cluster())
        world = World(
            folder,
            random,
            cluster=cluster,
            replicas=scenario.replicas,
            lease=scenario.lease,
            **options,
        )
        yield world
