"""Leases that run out for a moment, and what else may leave an execution waiting for nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from helpers.plans import error, look, write
from helpers.streets import connected, events
from opsconductor.orchestrator.store.sharing import RenewReplica

if TYPE_CHECKING:
    from helpers.engines import House
    from helpers.streets import Street
    from opsconductor.orchestrator.store.base import Op

A_MINUTE = timedelta(minutes=1)


@dataclass
class SlowRenewal:
    """A renewal that takes long: the lease runs out meanwhile, and is there again at its end."""

    house: House
    ahead: float = 0.0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self) -> asyncio.Task[None]:
        """Asks 1.5 s after the last renewal; returns when the store is asked."""
        house, cluster = self.house, self.house.cluster
        assert cluster is not None
        boottime, commit = house.replica.boottime, house.store.commit
        house.replica.boottime = lambda: boottime() + self.ahead
        await cluster.renew()

        async def slow(*ops: Op) -> list[Any]:
            result = await commit(*ops)
            if isinstance(ops[0], RenewReplica):
                self.asked.set()
                await self.answer.wait()
            return result

        house.store.commit = slow  # type: ignore[method-assign]
        self.ahead = 1.5
        task = asyncio.create_task(cluster.renew())
        await self.asked.wait()
        assert house.replica.may_act()
        self.ahead = 2.5
        assert not house.replica.may_act()
        return task

    async def end(self, task: asyncio.Task[None]) -> None:
        """Lets the store answer in time for what was asked."""
        self.answer.set()
        await task
        assert self.house.replica.may_act()


async def test_a_retry_that_came_up_while_a_renewal_took_too_long_is_made(street: Street) -> None:
    (one,) = await connected(street, 1)
    run = await one.submit(look("a"))
    await street.freeze(one)
    expired = error("START_TTL_EXPIRED")
    await one.end(run, "a", "not_started", error=expired)
    renewal = SlowRenewal(one)
    task = await renewal.begin()
    one.clock.wait(timedelta(seconds=2))
    one.engine._timers._wake.set()
    actor = one.engine._memory.moving[run.execution_id]
    await street.until(lambda: actor.timer is None, "the time of the retry has come and gone")
    assert one.lines["a1"].steps == ["a"]
    await renewal.end(task)
    await street.until(lambda: one.lines["a1"].steps == ["a", "a"], "it is tried again")


async def test_who_connects_while_the_lease_has_run_out_is_told_later(street: Street) -> None:
    (one,) = await connected(street, 1)
    run = await one.submit(look("a"))
    await street.freeze(one)
    renewal = SlowRenewal(one)
    task = await renewal.begin()
    one.hang_up()
    line = await one.connect("a1")
    assert line.steps == []
    await renewal.end(task)
    await street.until(lambda: line.steps == ["a"], "it is told what it was given")
    assert (await events(one, run)).count("attempt_granted") == 1


async def test_an_execution_that_nobody_asks_to_go_on_is_found(street: Street) -> None:
    (one,) = await connected(street, 1)
    run = await one.submit(look("a"), write("b"))
    actor = one.engine._memory.moving[run.execution_id]
    assert one.engine._turns.overlooked() == []
    await one.end(run, "a", "not_started", error=error("START_TTL_EXPIRED"))
    one.engine._timers._queue.clear()  # the timer is lost
    assert actor.timer is not None
    assert one.engine._turns.overlooked() == []
    one.clock.wait(A_MINUTE)
    assert one.engine._turns.overlooked() == [run.execution_id]
    actor.timer = None
    assert one.engine._turns.overlooked() == [run.execution_id]
    one.clock.wait(-A_MINUTE)
    assert one.engine._turns.overlooked() == [run.execution_id]
    one.clock.wait(A_MINUTE)
    one.agents.heard(one.member())
    await street.until(lambda: one.lines["a1"].steps == ["a", "a"], "it goes on")


async def test_a_drain_elsewhere_outlives_what_is_noted_here(street: Street) -> None:
    one, two = await connected(street)
    await street.deafen(one)
    await street.freeze(one)
    await two.agents.drain("a1", undo=False)
    assert not one.member().draining
    await one.agents.renewed(one.member(), one.clock(), "ab")
    await one.agents._keeping.crashed(one.member(), "p0", ["uptime"])
    row = await two.store.agent("a1")
    assert row is not None
    assert (row.draining, row.certificate_sha256) == (True, "ab")
