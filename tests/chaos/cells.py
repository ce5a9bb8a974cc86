"""Failpoints: every named point of the product, with what can happen there."""

from __future__ import annotations

import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.service import step_processes, wait_until
from chaos.victims import send
from chaos.world import LEASE
from helpers.source_tree import ROOT

if TYPE_CHECKING:
    from random import Random

    from chaos.service import Service
    from chaos.world import World

REACHED_WITHIN = 8.0
ONLINE_WITHIN = 20.0


@dataclass(frozen=True)
class Cell:
    """One failpoint with one action."""

    point: str
    action: str
    nth: int = 1

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.point}:{self.action}"

    @property
    def where(self) -> str:
        """Which kind of process passes the point."""
        return PLACES[self.point]

    @property
    def setting(self) -> str:
        """What arms it."""
        return f"{self.point}:{self.action}:{self.nth}"


ELSEWHERE = frozenset({"migrate.mid", "resolve.before_commit", "resolve.after_commit"})
"""Points that are passed once in the life of a store, or when a person decides: `make faults`."""


def _points() -> dict[str, str]:
    """Returns the failpoints of the product that chaos reaches, and the part that passes each."""
    found = {}
    for part in ("orchestrator", "agents"):
        for file in sorted((ROOT / part).rglob("*.py")):
            for name in re.findall(r'\bhit\("([a-z_.0-9]+)"\)', file.read_text()):
                found[name] = "agent" if part == "agents" else "orchestrator"
    return {name: part for name, part in found.items() if name not in ELSEWHERE}


PLACES = _points()

NEEDS = {
    "cancel.after_commit": ("cancel",),
    "output.after_write_before_ack": ("talk",),
    "adopt.mid": ("slow", "slow", "talk"),
    "journal.rotate": ("chain", "graph", "chain", "graph"),
    "lease.take": ("slow", "chain", "talk"),
}
"""Kinds of plans without which a point is not passed."""
AT_START = frozenset({"adopt.mid"})
"""Points that are passed by an agent which starts while something it began still runs."""
AT_TAKE_OVER = frozenset({"lease.take"})
"""Points that are passed by an orchestrator when others have died."""


def reach(world: World, cell: Cell, random: Random) -> bool:
    """Waits until an armed failpoint has acted, and lets what it froze thaw after three leases."""
    if has_acted(world, cell):
        return True
    service = armed_service(world, cell)
    if service is None or not wait_until(lambda: service.has_fired, REACHED_WITHIN):
        return False
    if cell.action == "stop":
        time.sleep(3 * LEASE)
        for pid in {service.pid, *service.kin_now()} - {0}:
            send(pid, signal.SIGCONT)
    elif cell.action == "kill9" and not cell.point.startswith("shim."):
        wait_until(lambda: not service.alive, 2.0)
    else:
        time.sleep(0.3)
    return True


def provoke(world: World, cell: Cell) -> None:
    """Makes a point be passed that nothing passes by itself."""
    if cell.point in AT_TAKE_OVER:
        wait_until(lambda: step_processes(world.ledger), 5.0)
        for service in world.orchestrators[:-1]:
            service.kill9()


def armed_service(world: World, cell: Cell) -> Service | None:
    """Returns the process that is armed with this cell, dead or alive."""
    return next((each for each in world.services if each.armed == cell.setting), None)


def has_acted(world: World, cell: Cell) -> bool:
    """Tells whether a cell has acted before its turn, while things were healed."""
    return any(cell.setting in service.acted for service in world.services)


def arm(world: World, cell: Cell) -> None:
    """Starts the process a cell is about again, armed, unless it is."""
    if armed_service(world, cell) is not None:
        return
    service = world.orchestrator
    if cell.where == "agent":
        service = world.places["local"].service
    elif cell.point in AT_TAKE_OVER:
        service = world.orchestrators[-1]
    service.kill9()
    if cell.where == "agent":
        wait_until(lambda: "local" not in world.online(), 2.0)
    service.start(cell.setting)
    if cell.point in AT_TAKE_OVER:
        world.wait_ready(service)
        wait_until(lambda: world.online() >= world.expected(), ONLINE_WITHIN)
    if cell.where == "agent" and cell.point not in AT_START:
        # Else the other agent has done all the round's plans before this one is there.
        wait_until(
            lambda: service.has_fired or not service.alive or "local" in world.online(),
            ONLINE_WITHIN,
        )
