"""How long an orchestrator may act: by its own count of time, from before it asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from opsconductor.orchestrator.engine.replica import Replica

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LEASE = timedelta(seconds=10)


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_only_one_may_always_act() -> None:
    assert Replica().may_act()


def test_one_of_several_may_act_only_while_its_lease_holds() -> None:
    time = Time()
    replica = Replica(shared=True, boottime=time, lease=LEASE)
    replica.rename(NOON)
    assert not replica.may_act()
    replica.renewed(time.now)
    time.now += 9.9
    assert replica.may_act()
    time.now += 0.2
    assert not replica.may_act()


def test_a_lease_counts_from_when_it_was_asked_for() -> None:
    time = Time()
    replica = Replica(shared=True, boottime=time, lease=LEASE)
    asked = time.now
    time.now += 8
    replica.renewed(asked)
    time.now += 3
    assert not replica.may_act()


def test_a_new_name_holds_nothing() -> None:
    time = Time()
    replica = Replica(shared=True, boottime=time, lease=LEASE)
    first = replica.rename(NOON)
    replica.renewed(time.now)
    assert replica.rename(NOON) != first
    assert not replica.may_act()


def test_who_leaves_does_not_act_any_more() -> None:
    time = Time()
    replica = Replica(shared=True, boottime=time, lease=LEASE)
    replica.renewed(time.now)
    replica.release()
    assert not replica.may_act()
