"""Partitions by the kernel, where agents have networks of their own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chaos.service import wait_until
from chaos.victims import place_of, programs_of, run_now
from chaos.world import LEASE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from chaos.faults import Fault
    from chaos.namespaces import Namespace
    from chaos.world import World

BEYOND_BEATS = 3 * LEASE
"""A partition that outlives every lease and freshness of an order."""


def cable_pulled(world: World, random: Random) -> bool:
    """The network of every agent is gone, for less than a lease or for longer."""
    return _apart(_all(world), random.uniform(0.5, 2 * LEASE))


def cable_pulled_of_one(world: World, random: Random) -> bool:
    """The network of one agent is gone until all else has gone on without it."""
    return _apart([_one(world, random)], BEYOND_BEATS)


def cable_flaps(world: World, random: Random) -> bool:
    """The network comes and goes about once a second."""
    for _ in range(4):
        _apart(_all(world), random.uniform(0.2, 0.8))
        time.sleep(random.uniform(0.2, 0.6))
    return True


def sent_is_lost(world: World, random: Random) -> bool:
    """What an agent sends goes nowhere; what it is sent arrives."""
    return _one_way(_one(world, random), random, sent=True)


def received_is_lost(world: World, random: Random) -> bool:
    """What an agent is sent goes nowhere; what it sends arrives."""
    return _one_way(_one(world, random), random, sent=False)


def cancel_while_apart(world: World, random: Random) -> bool:
    """Somebody cancels what runs where the network is gone."""
    (execution_id,) = run_now(world, random, "cancel")
    wait_until(lambda: programs_of(world), 5.0)
    namespaces = _all(world)
    for namespace in namespaces:
        namespace.pull()
    try:
        with world.client() as client:
            client.cancel(execution_id)
            world.note("cancel", execution=execution_id)
        time.sleep(random.uniform(0.5, 1.5) * LEASE)
    finally:
        for namespace in namespaces:
            namespace.heal()
    with world.client() as client:
        wait_until(lambda: client.get(execution_id).HasField("end_time"), 20.0)
    return True


def _apart(namespaces: Iterable[Namespace], seconds: float) -> bool:
    chosen = list(namespaces)
    for namespace in chosen:
        namespace.pull()
    time.sleep(seconds)
    for namespace in chosen:
        namespace.heal()
    return True


def _one_way(namespace: Namespace, random: Random, *, sent: bool) -> bool:
    namespace.lose(sent=sent)
    time.sleep(random.uniform(0.5, 2 * LEASE))
    namespace.heal()
    return True


def _all(world: World) -> list[Namespace]:
    return list(world.namespaces.values())


def _one(world: World, random: Random) -> Namespace:
    namespace = place_of(world, random).namespace
    assert namespace is not None
    return namespace


FAULTS: tuple[Fault, ...] = (
    *(cable_pulled, cable_pulled_of_one, cable_flaps),
    *(sent_is_lost, received_is_lost, cancel_while_apart),
)
