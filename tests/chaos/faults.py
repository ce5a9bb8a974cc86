"""What is done to the world: each fault breaks something while plans run, and says if it did."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from chaos.disks import copy_folder, lose_pages
from chaos.service import wait_until
from chaos.victims import (
    freeze,
    kill,
    place_of,
    processes_of,
    programs_of,
    run_now,
    send,
    with_supervisors,
)
from chaos.world import LEASE

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from chaos.world import World

    Fault = Callable[["World", "Random"], bool]

BASE = ("chain", "rollback")
"""What runs during every fault."""
ALL_KINDS = ("chain", "graph", "rollback", "retry", "read", "talk", "cancel", "timeout")

FAULTS: dict[str, Fault] = {}


def fault(function: Fault) -> Fault:
    """Adds a fault to the list under its name."""
    FAULTS[function.__name__] = function
    return function


# Killing


@fault
def kill_orchestrator(world: World, random: Random) -> bool:
    """SIGKILL at a random moment."""
    world.orchestrator.kill9()
    return True


@fault
def kill_agent(world: World, random: Random) -> bool:
    """SIGKILL of one agent; what it runs is left to itself."""
    place_of(world, random).service.kill9()
    return True


@fault
def kill_step(world: World, random: Random) -> bool:
    """SIGKILL of the process a step runs in."""
    wait_until(lambda: programs_of(world), 3.0)
    time.sleep(random.choice((0.0, 0.05, 0.2)))
    pids = sorted(programs_of(world))
    return bool(pids) and kill(random.choice(pids))


@fault
def kill_supervisor(world: World, random: Random) -> bool:
    """SIGKILL of whatever stands between an agent and the process of a step."""
    wait_until(lambda: programs_of(world), 3.0)
    agents = {place.service.pid for place in world.places.values()}
    between = set()
    programs = programs_of(world)
    for pid in programs:
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(pid).ppid()
            if parent not in agents and parent > 1 and parent not in programs:
                between.add(parent)
    return bool(between) and kill(random.choice(sorted(between)))


@fault
def kill_everything(world: World, random: Random) -> bool:
    """SIGKILL of the orchestrator, the agents and all that runs, in one moment."""
    for pid in programs_of(world):
        kill(pid)
    for place in world.places.values():
        place.service.kill_with_kin()
    world.orchestrator.kill9()
    return True


@fault
def power_loss(world: World, random: Random) -> bool:
    """An agent's machine loses power: all of it ends, unsynced bytes are gone, it boots anew."""
    place = place_of(world, random)
    place.service.signal(signal.SIGSTOP)  # nothing of one machine outlives the rest of it
    mine = place.service.kin_now() | with_supervisors(processes_of(world, place))
    for pid in mine:
        send(pid, signal.SIGSTOP)
    place.service.kill_with_kin()
    for pid in mine:
        kill(pid)
    world.note("lost", bytes=lose_pages(place.folder))
    world.new_boot(place)
    return True


@fault
def torn_journal(world: World, random: Random) -> bool:
    """An agent dies in the middle of appending a record."""
    place = place_of(world, random)
    place.service.kill9()
    with (place.folder / "journal").open("ab") as file:
        file.write(b"\xa7J\xff\x00\x00\x00" + random.randbytes(random.randrange(60)))
    return True


@fault
def second_agent(world: World, random: Random) -> bool:
    """Somebody starts the same agent once more beside the one that runs."""
    place = place_of(world, random)
    path = world.folder / "second-process.log"
    path.unlink(missing_ok=True)
    with path.open("ab") as log:
        command, environment = list(place.service.command), place.service.environment
        twin = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    # It ends at once because the folder is locked; where it does not, it is given time to do harm.
    wait_until(lambda: twin.poll() is not None or b"connected" in path.read_bytes(), 20.0)
    if twin.poll() is None:
        run_now(world, random, "talk", "talk", "talk")
        time.sleep(3.0)
    twin.kill()
    twin.wait()
    return True


@fault
def copied_agent(world: World, random: Random) -> bool:
    """Somebody copies an agent's folder while it works and starts the copy; an operator ends it.

    Until then both share one identity, and neither may go on for long.
    """
    place = place_of(world, random)
    wait_until(lambda: programs_of(world), 2.0)
    copy = copy_folder(place.folder)
    name = place.folder.name.removeprefix("agent-")
    world.note("agent copied", place=place.folder.name)
    twin = dataclasses.replace(
        place.service,
        command=world.launcher.running(name, copy),
        log=world.folder / "copied-agent.log",
        process=None,
        armed="",
        acted=set(),
    )
    twin.start()
    noticed = wait_until(lambda: name in world.quarantined(), 30.0)
    world.note("copy noticed", noticed=noticed)
    twin.kill_with_kin()
    return noticed


@fault
def journal_lost(world: World, random: Random) -> bool:
    """Somebody deletes an agent's journal while it is down."""
    place = place_of(world, random)
    place.service.kill9()
    for pid in processes_of(world, place):
        kill(pid)
    (place.folder / "journal").rename(place.folder / f"journal.lost-{time.monotonic_ns()}")
    world.note("journal lost", place=place.folder.name)
    return True


# Freezing


@fault
def freeze_orchestrator(world: World, random: Random) -> bool:
    """SIGSTOP for between half a lease and three."""
    return freeze(world.orchestrator, random.choice((0.5, 1, 1.5)) * LEASE)


@fault
def freeze_agent(world: World, random: Random) -> bool:
    """SIGSTOP for between half a lease and one and a half."""
    return freeze(place_of(world, random).service, random.choice((0.5, 1, 1.5)) * LEASE)


@fault
def freeze_agent_long(world: World, random: Random) -> bool:
    """SIGSTOP for three leases."""
    return freeze(place_of(world, random).service, 3 * LEASE)


# The network


def _network(mode: str, seconds: tuple[float, float], both: bool) -> Fault:
    def act(world: World, random: Random) -> bool:
        places = list(world.places.values()) if both else [place_of(world, random)]
        for place in places:
            place.proxy.set(mode)
        time.sleep(random.uniform(*seconds))
        for place in places:
            place.proxy.set("pass")
        return True

    return act


FAULTS |= {
    "partition": _network("blackhole", (0.5, 2 * LEASE), both=True),
    "partition_of_one": _network("blackhole", (0.5, 2 * LEASE), both=False),
    "partition_one_way": _network("half", (0.5, 1.5 * LEASE), both=False),
    "network_delay": _network("delay", (1.0, 2.0), both=True),
    "network_slow": _network("slow", (1.0, 2.0), both=True),
    "network_cut": _network("cut", (0.3, 1.0), both=True),
    "network_corrupt": _network("corrupt", (0.3, 1.0), both=True),
    "network_refused": _network("refuse", (0.3, 1.5), both=True),
}


@fault
def network_flaps(world: World, random: Random) -> bool:
    """The network comes and goes."""
    for _ in range(4):
        for mode in ("blackhole", "pass"):
            for place in world.places.values():
                place.proxy.set(mode)
            time.sleep(random.uniform(0.1, 0.5))
    return True


@fault
def network_reset(world: World, random: Random) -> bool:
    """Every connection is reset a few times."""
    for _ in range(random.randrange(1, 4)):
        for place in world.places.values():
            place.proxy.reset()
        time.sleep(random.uniform(0.05, 0.5))
    return True


# Clocks


@fault
def clock_jump(world: World, random: Random) -> bool:
    """The wall clock of every process jumps by an hour or a day, and jumps back."""
    seconds = random.choice((-86_400.0, -3_600.0, 3_600.0, 86_400.0))
    began = time.time()
    world.set_clock(seconds)
    time.sleep(random.uniform(0.5, 2.0))
    world.set_clock(0.0)
    world.note("clock jump", seconds=seconds, began=began, ended=time.time())
    return True


# The store


@fault
def store_busy(world: World, random: Random) -> bool:
    """Another program holds SQLite's write lock for a while."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(world.data / "store.sqlite", timeout=5)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        time.sleep(random.uniform(0.5, 3.0))
        other.rollback()
    return True
