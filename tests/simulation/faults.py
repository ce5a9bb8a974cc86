"""Faults as data: drawn from the seed, so that a run can be repeated with some of them left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulation.weather import Weather

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from simulation.world import World

JUMPS = (-600.0, -90.0, -20.0, 20.0, 90.0, 600.0)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong at a time, for a while."""

    at: float
    kind: str
    who: int
    """Which of the machines it meets, modulo how many there are."""
    seconds: float
    amount: float

    def __str__(self) -> str:
        return (
            f"{self.at:8.3f} {self.kind} #{self.who} for {self.seconds:.3f} s ({self.amount:.2f})"
        )


def draw(
    rng: random.Random, span: float, kinds: tuple[str, ...], rate: float, share: float
) -> list[Fault]:
    """Draws faults of a random part of all kinds ("swarm testing"), over a span of time."""
    chosen = [kind for kind in kinds if rng.random() < share]
    if not chosen:
        return []
    found = [
        Fault(
            at=rng.uniform(0.5, span),
            kind=rng.choice(chosen),
            who=rng.randrange(1000),
            seconds=rng.choice((0.05, 0.5, 2.0, 10.0, 30.0, 70.0)) * rng.uniform(0.5, 1.5),
            amount=rng.random(),
        )
        for _ in range(max(1, int(rate * span * rng.uniform(0.3, 1.7))))
    ]
    return sorted(found, key=lambda fault: fault.at)


def strike(world: World, fault: Fault) -> None:
    """Lets one fault happen."""
    world.checker.note(f"fault {fault.kind} #{fault.who} {fault.seconds:.3f}")
    world.faults_met += 1
    _KINDS[fault.kind](world, fault)


def _kill_orchestrator(world: World, fault: Fault) -> None:
    house = world.orchestrator(fault.who)
    house.kill()
    world.later(min(fault.seconds, 15.0), world.start_if_dead, house)


def _freeze_orchestrator(world: World, fault: Fault) -> None:
    process = world.orchestrator(fault.who).process
    if process is not None:
        process.freeze()
        world.later(fault.seconds, process.thaw)


def _kill_agent(world: World, fault: Fault) -> None:
    agent = world.agent(fault.who)
    world.kill_agent(agent)
    world.later(min(fault.seconds, 15.0), world.start_if_dead, agent)


def _power_agent(world: World, fault: Fault) -> None:
    agent = world.agent(fault.who)
    world.kill_agent(agent, power=True)
    world.later(fault.seconds, world.start_if_dead, agent)


def _freeze_agent(world: World, fault: Fault) -> None:
    agent = world.agent(fault.who)
    process = agent.process
    if process is not None:
        process.freeze()
        world.checker.frozen_until[agent.name] = world.loop.time() + fault.seconds
        world.later(fault.seconds, process.thaw)


def _partition(world: World, fault: Fault) -> None:
    path = world.network.path(world.agent(fault.who).name, world.orchestrator(fault.who // 7).name)
    which = fault.who % 3
    path.blocked_up = path.blocked_up or which in (0, 1)
    path.blocked_down = path.blocked_down or which in (0, 2)
    broken = fault.amount < 0.5
    world.later(fault.seconds, lambda: world.network.unblock(path, broken=broken))


def _reset(world: World, fault: Fault) -> None:
    path = world.network.path(world.agent(fault.who).name, world.orchestrator(fault.who // 7).name)
    for call in list(path.calls):
        call.abort("the connection was reset")


def _weather(world: World, fault: Fault) -> None:
    network, amount = world.network, fault.amount
    network.weather = Weather(
        delay=(0.0005, 0.01 + amount * 0.3),
        slow=0.1 * amount,
        drop=0.1 * amount if fault.who % 2 else 0.0,
        duplicate=0.2 * amount if fault.who % 3 else 0.0,
        reorder=0.2 * amount if fault.who % 5 else 0.0,
    )

    def clear() -> None:
        network.weather = Weather()
        # A connection that lost something cannot have gone on: TCP would have sent it again.
        for path in network.paths.values():
            for call in list(path.calls):
                if call.dirty:
                    call.abort("the connection was lost in bad weather")

    world.later(fault.seconds, clear)


def _replay(world: World, fault: Fault) -> None:
    for number in range(1 + int(fault.amount * 20)):
        world.later(fault.seconds * number / 20, world.tape.replay)


def _database_down(world: World, fault: Fault) -> None:
    world.database.down = True
    world.later(fault.seconds, lambda: setattr(world.database, "down", False))


def _database_fails(world: World, fault: Fault) -> None:
    world.database.failing = fault.amount / 2
    world.later(fault.seconds, lambda: setattr(world.database, "failing", 0.0))


def _answers_lost(world: World, fault: Fault) -> None:
    world.database.losing_answers = fault.amount / 2
    world.later(fault.seconds, lambda: setattr(world.database, "losing_answers", 0.0))


def _clock_jump(world: World, fault: Fault) -> None:
    machine = world.programs[fault.who % len(world.programs)].machine
    machine.ahead = JUMPS[fault.who % len(JUMPS)]
    world.later(fault.seconds, lambda: setattr(machine, "ahead", 0.0))


def _disk_full(world: World, fault: Fault) -> None:
    disk = world.agent(fault.who).disk
    disk.full = True
    world.later(fault.seconds, lambda: setattr(disk, "full", False))


def _disk_broken(world: World, fault: Fault) -> None:
    disk = world.agent(fault.who).disk
    disk.broken = True
    world.later(min(fault.seconds, 5.0), lambda: setattr(disk, "broken", False))


def _journal_lost(world: World, fault: Fault) -> None:
    agent = world.agent(fault.who)
    world.kill_agent(agent)
    world.lose_journal(agent)
    world.later(min(fault.seconds, 15.0), world.start_if_dead, agent)


def _destroy_agent(world: World, fault: Fault) -> None:
    """Its host is gone for good, as far as anybody knows; a backup of it is found later."""
    agent = world.agent(fault.who)
    world.kill_agent(agent)
    world.destroyed.add(agent.name)
    world.later(fault.seconds, world.start_if_dead, agent)


def _restore(world: World, fault: Fault) -> None:
    world.restore(wait=2.0 + fault.amount * 20.0)


_KINDS: dict[str, Callable[[World, Fault], None]] = {
    "kill_orchestrator": _kill_orchestrator,
    "freeze_orchestrator": _freeze_orchestrator,
    "kill_agent": _kill_agent,
    "power_agent": _power_agent,
    "freeze_agent": _freeze_agent,
    "partition": _partition,
    "reset": _reset,
    "weather": _weather,
    "replay": _replay,
    "database_down": _database_down,
    "database_fails": _database_fails,
    "answers_lost": _answers_lost,
    "clock_jump": _clock_jump,
    "disk_full": _disk_full,
    "disk_broken": _disk_broken,
    "journal_lost": _journal_lost,
    "restore": _restore,
    "destroy_agent": _destroy_agent,
}
ALL_KINDS = tuple(_KINDS)
