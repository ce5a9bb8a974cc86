"""What is too much is refused, with when to come again; what is taken costs little and is fair."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.engines import House
from helpers.plans import look, restart
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.executions.place import place
from opsconductor.orchestrator.engine import memory
from opsconductor.orchestrator.engine.admission import LATEST, SOONEST
from opsconductor.orchestrator.engine.fleet import Fleet
from opsconductor.orchestrator.engine.limits import Limits
from opsconductor.orchestrator.engine.submission import Submissions
from opsconductor.rpc.errors import InvalidArgument, QueueFull

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.domain.executions.place import Placement, ReadyStep


def limited(house: House, **limits: int) -> None:
    """Sets limits on submissions."""
    old = house.submissions
    house.submissions = Submissions(
        house.store, old._planner, house.engine, house.clock, Limits(**limits)
    )


def why(house: House, run: Execution, step_id: str = "a") -> str:
    return house.engine.waiting_reason(run.execution_id, step_id)


async def count(house: House) -> int:
    return len((await house.store.list_executions("default")).rows)


async def test_beyond_the_open_executions_allowed_nothing_is_stored(house: House) -> None:
    limited(house, open_executions=2)
    first = await house.submit(look("a"), request_id="first")
    await house.submit(look("a"))
    with pytest.raises(QueueFull, match="2 are allowed") as refused:
        await house.submit(look("a"))
    assert refused.value.retry_after is not None
    assert SOONEST <= refused.value.retry_after <= LATEST
    assert await count(house) == 2
    # The same request id is answered all the same: it needs no room.
    again = await house.submit(look("a"), request_id="first")
    assert again.execution_id == first.execution_id


async def test_once_one_has_ended_the_next_is_taken(house: House) -> None:
    limited(house, open_executions=1)
    first = await house.submit(look("a"))
    with pytest.raises(QueueFull):
        await house.submit(look("a"))
    await house.end(first, "a")
    house.clock.wait(timedelta(seconds=1))
    await house.submit(look("a"))


async def test_the_faster_executions_end_the_sooner_a_caller_may_come_again(house: House) -> None:
    limited(house, open_executions=4)
    runs = [await house.submit(look("a")) for _ in range(4)]
    with pytest.raises(QueueFull) as slow:
        await house.submit(look("a"))
    for run in runs:
        await house.end(run, "a")
    house.clock.wait(timedelta(seconds=1))
    for _ in range(4):
        await house.submit(look("a"))
    with pytest.raises(QueueFull) as fast:
        await house.submit(look("a"))
    assert slow.value.retry_after == LATEST
    assert fast.value.retry_after is not None
    assert fast.value.retry_after < LATEST / 10


async def test_steps_that_wait_are_limited_too(house: House) -> None:
    limited(house, waiting_steps=3)
    house.hang_up()
    await house.submit(look("a"), look("b"), mode="parallel")
    with pytest.raises(QueueFull, match="2 steps wait for tenant default, 3 are allowed"):
        await house.submit(look("a"), look("b"), mode="parallel")
    assert await count(house) == 1
    await house.submit(look("a"))


async def test_one_tenant_at_its_limit_does_not_stop_another(house: House) -> None:
    await house.enrol("b1", tenant="other")
    await house.connect("b1")
    limited(house, open_executions=1)
    await house.submit(look("a"))
    with pytest.raises(QueueFull):
        await house.submit(look("a"))
    await house.submit(look("a"), tenant="other")


@pytest.mark.parametrize("text", ["many", "-1", "1.5"])
def test_a_limit_that_is_no_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument, match="OPSCONDUCTOR_MAX_OPEN_EXECUTIONS"):
        Limits.from_environment({"OPSCONDUCTOR_MAX_OPEN_EXECUTIONS": text})


def test_limits_come_from_variables() -> None:
    found = Limits.from_environment({"OPSCONDUCTOR_MAX_TENANT_ATTEMPTS": "7"})
    assert found == Limits(tenant_attempts=7)


async def test_a_segment_and_a_tenant_run_no_more_than_they_may(house: House) -> None:
    for fleet, reason in (
        (Fleet(tenant_limit=1), "waits for a free place under the limit of the tenant"),
        (Fleet(segment_limit=1), "waits for a free place under the limit of segment local"),
    ):
        fleet.add(house.member())
        house.fleet._members, house.fleet._tenant_limit, house.fleet._segment_limit = (
            fleet._members,
            fleet._tenant_limit,
            fleet._segment_limit,
        )
        first = await house.submit(look("a"))
        second = await house.submit(look("a"))
        assert why(house, second) == reason
        await house.end(first, "a")
        await house.live(second, "a")
        await house.end(second, "a")


async def test_an_execution_with_many_steps_leaves_room_for_others(house: House) -> None:
    await house.connect("a1", capacity=2)
    many = await house.submit(*(look(f"s{n}") for n in range(6)), mode="parallel")
    one = await house.submit(look("a"))
    assert len(list((await house.state(many)).live_attempts())) == 2
    first = next(iter((await house.state(many)).live_attempts()))
    await house.end(many, first.step_id)
    # Four steps of the first have waited longer, and it has one under way already.
    await house.live(one, "a")


async def test_whoever_waited_long_enough_comes_before_the_more_urgent(house: House) -> None:
    await house.connect("a1", capacity=1)
    busy = await house.submit(look("a"))
    patient = await house.submit(look("a"), priority=4)
    house.clock.wait(timedelta(minutes=31))
    house.agents.heard(house.member())
    urgent = await house.submit(look("a"), priority=2)
    await house.end(busy, "a")
    await house.live(patient, "a")
    assert (await house.state(urgent)).state == "queued"


async def test_a_step_that_would_rather_fail_than_wait_does(house: House) -> None:
    lock = {"key": "deploy", "max_runs": 1}
    first = await house.submit(look("a", concurrency=lock))
    second = await house.submit(look("a", concurrency={**lock, "on_conflict": "fail"}))
    state = await house.until(second, lambda state: not state.open)
    assert state.state == "failed"
    assert state.steps["a"].error["code"] == "CONFLICT"
    assert state.steps["a"].error["message"].startswith("key:deploy is held")
    assert not state.attempts
    await house.end(first, "a")


async def test_locks_of_one_tenant_are_not_those_of_another(house: House) -> None:
    await house.enrol("b1", tenant="other")
    await house.connect("b1")
    mine = await house.submit(restart("a", target="10.0.0.9"))
    theirs = await house.submit(restart("a", target="10.0.0.9"), tenant="other")
    await house.live(mine, "a")
    await house.live(theirs, "a")


async def test_a_plans_own_key_does_not_displace_the_locks_of_the_tool(house: House) -> None:
    one = restart("a", target="10.0.0.9", concurrency={"key": "mine", "max_runs": 9})
    run = await house.submit(one)
    body = run.compiled_step("a").body
    assert body["concurrency"]["key"] == "mine"
    assert body["concurrency"]["also"] == ["service:10.0.0.9:nginx"]


async def test_what_only_waits_is_not_kept_in_memory_and_is_run_all_the_same(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "IDLE_KEPT", 2)
    house.hang_up()
    runs = [await house.submit(look("a")) for _ in range(9)]
    assert len(list(house.engine.open_states())) <= 3
    line = await house.connect("a1", capacity=3)
    for run in runs:
        await house.end(run, "a")
    assert len(line.steps) == len({item.attempt_id for item in line.assigned}) == 9
    for run in runs:
        assert (await house.state(run)).state == "completed"


async def test_a_process_that_starts_over_many_that_wait_runs_them_all(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "IDLE_KEPT", 2)
    busy = await house.submit(restart("a", target="10.0.0.9"))
    attempt = await house.live(busy, "a")
    house.hang_up()
    runs = [await house.submit(look("a")) for _ in range(6)]
    blocked = await house.submit(restart("a", target="10.0.0.9"))
    await house.engine.stop()
    again = await House.over(house.store)
    assert len(list(again.engine.open_states())) <= 4
    line = await again.connect("a1")
    for run in runs:
        await again.end(run, "a")
    assert why(again, blocked) == "waits for lock key:service:10.0.0.9:nginx"
    assert attempt.attempt_id in {item.attempt_id for item in line.assigned}
    await again.end(busy, "a")
    await again.end(blocked, "a")
    await again.agents.stop()
    await again.engine.stop()


async def test_what_rests_can_be_cancelled(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "IDLE_KEPT", 0)
    house.hang_up()
    run = await house.submit(look("a"))
    assert list(house.engine.open_states()) == []
    await house.engine.command(
        run.execution_id, lambda state, _: commands.cancel(state, "olga", "stop")
    )
    assert (await house.state(run)).state == "cancelled"
    assert why(house, run) == ""
    assert house.engine.waiting.steps_of("default") == 0


async def test_what_rests_goes_on_when_its_time_has_come(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "IDLE_KEPT", 0)
    retry = {"max_attempts": 2, "backoff": "fixed", "delay": "1s", "jitter": False}
    run = await house.submit(look("a", retry=retry))
    error = {"code": "EXIT_CODE", "message": "no", "error_class": "retryable"}
    await house.end(run, "a", "failed", error=error)
    assert list(house.engine.open_states()) == []
    assert (await house.live(run, "a")).number == 2


async def test_many_that_wait_for_an_absent_agent_do_not_slow_the_others(house: House) -> None:
    await house.enrol("a2")
    await house.connect("a2")
    house.member("a2").segment = "dmz"
    house.hang_up("a2")
    for _ in range(40):
        await house.submit(look("a", segment="dmz"))
    looked_at: list[int] = []

    def counted(ready: Sequence[ReadyStep], *more: Any) -> Placement:
        looked_at.append(len(ready))
        return place(ready, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("opsconductor.orchestrator.engine.waiting.place", counted)
        run = await house.submit(look("a", segment="local"))
        await house.live(run, "a")
    assert max(looked_at) == 1


async def test_a_segment_an_agent_and_a_target_have_queues_of_their_own(house: House) -> None:
    for name in ("a2", "a3"):
        await house.enrol(name)
        await house.connect(name)
        house.member(name).segment = "dmz"
        house.hang_up(name)
    house.hang_up()
    here, there = look("a", segment="local"), look("a", segment="dmz")
    limited(house, segment_waiting_steps=2)
    for step in (here, here, there):
        await house.submit(step)
    with pytest.raises(QueueFull, match="2 steps wait for segment local, 2 are allowed"):
        await house.submit(here)
    await house.submit(there)
    # Two agents serve the other segment, so neither has what waits there to itself.
    limited(house, agent_waiting_steps=2)
    with pytest.raises(QueueFull, match="2 steps wait for agent a1, 2 are allowed"):
        await house.submit(here)
    await house.submit(there)
    limited(house, target_waiting_steps=2)
    for name, target in (("a", "web-01"), ("b", "web-01"), ("c", "10.0.0.9")):
        await house.submit(restart(name, target=target, segment="local"))
    with pytest.raises(QueueFull, match="2 steps wait for target web-01, 2 are allowed"):
        await house.submit(restart("a", segment="local"))
    assert await count(house) == 8


async def test_a_plan_that_is_alone_in_a_queue_is_taken_however_large(house: House) -> None:
    house.hang_up()
    limited(house, waiting_steps=1, agent_waiting_steps=1)
    await house.submit(look("a"), look("b"), mode="parallel")
    with pytest.raises(QueueFull):
        await house.submit(look("a"))


async def test_what_no_longer_waits_makes_room_in_every_queue(house: House) -> None:
    house.hang_up()
    limited(house, agent_waiting_steps=1, target_waiting_steps=1)
    first = await house.submit(restart("a"))
    with pytest.raises(QueueFull):
        await house.submit(restart("b"))
    await house.connect("a1")
    await house.live(first, "a")
    assert list(house.engine.waiting.demands("default")) == []
    assert house.engine.waiting.at_target("default", "web-01") == 0
    await house.submit(restart("b"))
    assert house.engine.waiting.at_target("default", "web-01") == 1
