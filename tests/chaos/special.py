"""Faults that need a world of their own kind: other stores, a small disk, several replicas."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chaos import cables
from chaos.clocks import PARTIES, SEEN_AFTER
from chaos.disks import filled, restore_store, save_store
from chaos.plans import KINDS
from chaos.service import wait_until
from chaos.victims import freeze, place_of, run_now
from chaos.world import LEASE
from opsconductor.client import approving
from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from chaos.faults import Fault
    from chaos.world import World

JUMPS = (-86_400.0, -3_600.0, 3_600.0, 86_400.0)
WITHIN_SKEW = -200.0
"""A shift of the clock that signatures still bear."""


def restore(world: World, random: Random) -> bool:
    """The store goes back to an older state while agents remember more; an operator confirms."""
    world.orchestrator.kill9()
    copy = save_store(world)
    world.orchestrator.start()
    world.wait_ready()
    wait_until(lambda: world.online() >= world.expected(), 20.0)
    run_now(world, random, "chain", "talk")
    time.sleep(random.uniform(0.3, 1.5))
    world.orchestrator.kill9()
    restore_store(world, copy)
    world.note("store restored")
    world.restored = True
    world.orchestrator.start()
    if not world.wait_ready():
        return False
    noticed = wait_until(lambda: safe_mode(world), 15.0)
    with world.client() as client:
        # Asked for now, and begun only once somebody has looked.
        (run,) = run_now(world, random, "chain")
        time.sleep(1.0)
        client.confirm_restore("chaos put an older store in place", planned=not noticed)
        world.note("restore confirmed", noticed=noticed)
        wait_until(lambda: client.get(run).HasField("end_time"), 30.0)
    shutil.rmtree(copy)
    return True


def safe_mode(world: World) -> bool:
    """Tells whether the orchestrator has noticed that its store went back."""
    with contextlib.suppress(OpsConductorError, OSError), world.client() as client:
        return bool(client.list_agents(page_size=100).safe_mode.active)
    return False


def replayed_approval(world: World, random: Random) -> bool:
    """Somebody presents what was signed for one run of a plan as the approval of another run."""
    plan = KINDS["chain"](f"replay{random.getrandbits(32):x}", random)
    with world.client() as client:
        runs = [client.submit(plan).execution for _ in range(2)]
        first, second = (run.pending_approval_ids[0] for run in runs)
        signed = approving.sign_approval(
            approving.check(client.get_approval(first)),
            world.context.signer(),
            now=datetime.now(UTC),
        )
        client.decide(first, "approve", signed=signed)
        with contextlib.suppress(OpsConductorError):
            client.decide(second, "approve", signed=signed)
        wait_until(lambda: client.get(runs[0].execution_id).HasField("end_time"), 20.0)
        wait_until(lambda: client.get(runs[1].execution_id).HasField("end_time"), 2.0)
    return True


def late_start(world: World, random: Random) -> bool:
    """An agent sleeps while it is given work; meanwhile its clock is set back."""
    place = world.places["local"]
    for other in world.places.values():
        if other is not place:
            other.service.stop()
    time.sleep(0.5)
    place.service.signal(signal.SIGSTOP)
    run_now(world, random, "chain")
    time.sleep(LEASE + 6)
    began = time.time()
    world.set_clock(WITHIN_SKEW)
    place.service.signal(signal.SIGCONT)
    time.sleep(2.0)
    world.set_clock(0.0)
    world.note("clock jump", seconds=WITHIN_SKEW, began=began, ended=time.time())
    return True


def disk_full(world: World, random: Random) -> bool:
    """An agent's disk has no room for a while."""
    with filled(place_of(world, random).folder):
        time.sleep(random.uniform(1.0, 3.0))
    return True


def store_full(world: World, random: Random) -> bool:
    """The orchestrator's disk has no room for a while."""
    with filled(world.data):
        time.sleep(random.uniform(1.0, 3.0))
    return True


def agent_clock_jump(world: World, random: Random) -> bool:
    """The time of day of the agents alone jumps by an hour or a day, and jumps back."""
    return _jump(world, random, ("agent",))


def orchestrator_clock_jump(world: World, random: Random) -> bool:
    """The time of day of the orchestrator alone jumps by an hour or a day, and jumps back."""
    return _jump(world, random, ("orchestrator",))


def common_clock_jump(world: World, random: Random) -> bool:
    """The time of day of everything jumps, as the C library tells it."""
    return _jump(world, random, PARTIES)


def _jump(world: World, random: Random, parties: Sequence[str]) -> bool:
    seconds = random.choice(JUMPS)
    began = time.time()
    world.set_clock(seconds, parties)
    time.sleep(SEEN_AFTER + random.uniform(0.5, 2.0))
    world.set_clock(0.0, parties)
    time.sleep(SEEN_AFTER)
    world.note("clock jump", seconds=seconds, began=began, ended=time.time())
    return True


def database_restart(world: World, random: Random) -> bool:
    """PostgreSQL is stopped as by a crash and is away for a moment."""
    assert world.cluster is not None
    world.cluster.stop("immediate")
    time.sleep(random.uniform(0.0, 2.0))
    world.cluster.start()
    return True


def database_disconnects(world: World, random: Random) -> bool:
    """Every connection to PostgreSQL is cut a few times, as by a failover."""
    assert world.cluster is not None
    for _ in range(random.randrange(1, 4)):
        world.cluster.end_connections(world.store)
        time.sleep(random.uniform(0.1, 0.6))
    return True


def kill_replica(world: World, random: Random) -> bool:
    """SIGKILL of one or two of several orchestrators."""
    for service in random.sample(world.orchestrators, random.choice((1, 1, 2))):
        service.kill9()
    time.sleep(random.uniform(0.0, 2 * LEASE))
    return True


def freeze_replica(world: World, random: Random) -> bool:
    """SIGSTOP of one orchestrator until others have taken over; then it wakes."""
    return freeze(random.choice(world.orchestrators), random.choice((0.5, 1.5, 3)) * LEASE)


def rolling_restart(world: World, random: Random) -> bool:
    """Every orchestrator is stopped and started again, one after the other."""
    for service in world.orchestrators:
        service.stop()
        service.start()
        world.wait_ready(service)
        wait_until(lambda: world.online() >= world.expected(), 20.0)
    return True


SPECIAL: dict[str, Fault] = {
    each.__name__: each
    for each in (
        *(restore, replayed_approval, late_start, disk_full, store_full),
        *(agent_clock_jump, orchestrator_clock_jump, common_clock_jump, *cables.FAULTS),
        *(database_restart, database_disconnects),
        *(kill_replica, freeze_replica, rolling_restart),
    )
}
"""Faults that need a world of their own kind."""
