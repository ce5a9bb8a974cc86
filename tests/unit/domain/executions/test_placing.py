"""Which agent takes which step, and what is said when none does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from helpers.plans import NOON, Story, agent, compiled, look, restart, write
from opsconductor.orchestrator.domain.executions.place import (
    AgentView,
    Demand,
    ReadyStep,
    able,
    place,
    place_preview,
    ready_steps,
)

DEMAND = Demand("automation-service", "command")


def step(number: int = 1, **changes: Any) -> ReadyStep:
    values: dict[str, Any] = {
        "execution_id": f"exec_{number}",
        "step_id": "a",
        "kind": "forward",
        "number": 1,
        "demand": DEMAND,
        "priority": 3,
        "queued_at": NOON + timedelta(seconds=number),
        **changes,
    }
    return ReadyStep(**values)


def reason(demand: Demand, *fleet: AgentView) -> str:
    ((_, why),) = place([step(demand=demand)], fleet, {}).waiting
    return why


def test_the_agent_with_most_free_places_takes_a_step() -> None:
    fleet = [agent("a", capacity=4, running=3), agent("b", capacity=4, running=1)]
    (grant,) = place([step()], fleet, {}).grants
    assert grant.agent_id == "b"
    assert grant.reason == "b serves segment local and has 3 of 4 places free"


def test_urgent_steps_come_first_then_older_ones() -> None:
    waiting = [step(3), step(1), step(2), step(4, priority=1)]
    placement = place(waiting, [agent(capacity=2)], {})
    assert [grant.step.execution_id for grant in placement.grants] == ["exec_4", "exec_1"]
    assert [why for _, why in placement.waiting] == ["waits for a free place on a1"] * 2


def test_a_lock_is_held_by_as_many_as_it_allows() -> None:
    locked = [step(number, locks=(("key:x", 2),)) for number in (1, 2, 3)]
    placement = place(locked, [agent()], {"key:x": 1})
    assert len(placement.grants) == 1
    assert {why for _, why in placement.waiting} == {"waits for lock key:x"}


def test_a_step_behind_a_lock_takes_no_place_from_others() -> None:
    placement = place([step(1, locks=(("key:x", 1),)), step(2)], [agent(capacity=1)], {"key:x": 1})
    assert [grant.step.execution_id for grant in placement.grants] == ["exec_2"]


def test_why_nobody_takes_a_step_is_said() -> None:
    assert reason(Demand("automation-service", "command", segment="dmz"), agent()) == (
        "no agent offers automation-service with method command and serves segment dmz "
        "(segments with agents: local)"
    )
    assert "carries gpu=yes" in reason(
        Demand("automation-service", "command", labels={"gpu": "yes"}), agent()
    )
    assert reason(DEMAND, agent(ready=False)) == (
        "waits for agent a1 to be connected and taking work"
    )
    assert "segments with agents: none" in reason(DEMAND)


def test_a_target_reached_by_ssh_needs_an_agent_with_ssh() -> None:
    over_ssh = Demand("automation-service", "command", connection="ssh")
    assert able(over_ssh, agent())
    assert not able(over_ssh, agent(methods=frozenset({"command"})))


def test_a_preview_names_an_agent_that_could_even_while_it_is_away() -> None:
    assert place_preview(DEMAND, [agent(ready=False)])[0] == "a1"
    assert place_preview(DEMAND, [])[0] == ""


def test_changes_of_one_target_wait_for_each_other_and_looks_do_not() -> None:
    on = {"target": "web-01"}
    plan = compiled(write("a", **on), restart("b"), look("c", **on), mode="parallel")
    story = Story(plan, fleet=[])
    placement = place(ready_steps(story.state, story.now), [agent()], {})
    assert [grant.step.step_id for grant in placement.grants] == ["a", "c"]
    assert [why for _, why in placement.waiting] == ["waits for lock target:web-01"]


def test_a_plans_own_key_limits_how_many_run() -> None:
    key = {"concurrency": {"key": "db", "max_runs": 1, "on_conflict": "queue"}}
    story = Story(compiled(look("a", **key), look("b", **key), mode="parallel"), fleet=[])
    placement = place(ready_steps(story.state, story.now), [agent()], {})
    assert [grant.step.step_id for grant in placement.grants] == ["a"]


@given(
    st.lists(
        st.builds(
            step,
            st.integers(1, 9),
            step_id=st.text(min_size=1, max_size=3),
            priority=st.integers(1, 5),
            locks=st.lists(
                st.tuples(st.sampled_from(["x", "y"]), st.integers(1, 3)),
                max_size=2,
                unique_by=lambda lock: lock[0],
            ).map(tuple),
        ),
        max_size=12,
    ),
    st.lists(st.integers(0, 4), max_size=3),
)
def test_no_agent_and_no_lock_is_given_out_beyond_its_room(
    ready: list[ReadyStep], capacities: list[int]
) -> None:
    fleet = [agent(f"a{n}", capacity=capacity) for n, capacity in enumerate(capacities)]
    placement = place(ready, fleet, {})
    assert len(placement.grants) + len(placement.waiting) == len(ready)
    for view in fleet:
        assert sum(grant.agent_id == view.agent_id for grant in placement.grants) <= view.capacity
    held: dict[str, int] = {}
    for grant in placement.grants:
        for key, room in grant.step.locks:
            assert held.get(key, 0) < room
            held[key] = held.get(key, 0) + 1
