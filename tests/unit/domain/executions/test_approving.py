"""How approvals hold an execution back, let it go, end it, and what an edit does to them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.plans import FREE, Story, compiled, look, restart, write
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.plans.policy import DEFAULT_POLICY, Rule
from opsconductor.rpc.errors import (
    AlreadyDecided,
    Expired,
    InvalidArgument,
    InvalidTransition,
    NotFound,
    Superseded,
)

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan


def at_level(level: int, **changes: Any) -> Any:
    return replace(FREE, rules=(Rule("asked", level),), **changes)


def test_a_plan_that_needs_no_approval_says_which_rule_let_it_run() -> None:
    story = Story(compiled(look("a"), policy=DEFAULT_POLICY))
    assert story.running == ["a"]
    assert story.log[1].event == ev.AutoApproved("low-risk", "default", "1")


@pytest.mark.parametrize("level", [1, 2])
def test_nothing_starts_before_the_plan_is_approved(level: int) -> None:
    story = Story(compiled(restart("a"), policy=at_level(level)))
    assert (story.outcome, story.running) == ("approval_required", [])
    assert story.asked().plan_digest == story.plan.plan_digest
    story.decide("approve", "bob")
    assert (story.outcome, story.running) == ("running", ["a"])
    assert story.state.approved_at == story.now


def test_who_asked_does_not_approve_from_level_2_up() -> None:
    story = Story(compiled(restart("a"), policy=at_level(2, requester_may_approve=frozenset({1}))))
    story.decide("approve", "rita")
    assert story.outcome == "approval_required"
    assert story.decide("approve", "bob").running == ["a"]


def test_step_by_step_asks_when_each_step_comes_up() -> None:
    story = Story(compiled(restart("a"), restart("b"), policy=at_level(3)))
    assert (story.outcome, story.running) == ("approval_required", [])
    story.decide("approve", "bob", "a")
    assert (story.outcome, story.running) == ("running", ["a"])
    story.complete("a")
    assert (story.outcome, story.step("b")) == ("approval_required", "approval_required")
    story.decide("approve", "bob", "b").complete("b")
    assert story.outcome == "completed"


def test_an_execution_shows_that_it_waits_as_soon_as_nothing_else_runs() -> None:
    gated = restart("b", approval={"expires": "1h"})
    story = Story(compiled(look("a"), gated, mode="parallel"))
    assert (story.outcome, story.running) == ("running", ["a"])
    assert story.complete("a").outcome == "approval_required"


def test_two_gates_are_passed_one_by_one() -> None:
    gates = {"approval": {"expires": "1h"}}
    steps = (restart("a", **gates), restart("b", target="web-02", **gates))
    story = Story(compiled(*steps, mode="parallel"))
    story.decide("approve", "bob", "b").complete("b")
    assert (story.outcome, story.running) == ("approval_required", [])
    assert story.decide("approve", "bob", "a").complete("a").outcome == "completed"


def test_a_rejected_plan_never_starts() -> None:
    story = Story(compiled(restart("a"), policy=at_level(1))).decide("reject", "bob", reason="no")
    assert (story.outcome, story.granted()) == ("rejected", [])
    assert story.state.reason == "rejected by bob: no"


@pytest.mark.parametrize("on_failure", ["stop", "rollback", "continue", "ask"])
def test_a_rejected_step_ends_the_plan_as_rejected_when_nothing_was_changed(
    on_failure: str,
) -> None:
    gated = restart("b", approval={"expires": "1h"})
    story = Story(compiled(look("a"), gated, on_failure=on_failure)).complete("a")
    story.decide("reject", "bob", "b", "no")
    assert (story.outcome, story.step("b")) == ("rejected", "skipped")


def test_a_rejected_step_rolls_back_what_was_changed() -> None:
    gated = restart("b", approval={"expires": "1h"})
    story = Story(compiled(write("a"), gated, on_failure="rollback")).complete("a")
    story.decide("reject", "bob", "b", "no")
    assert story.outcome == "rolling_back"
    assert story.complete("a").outcome == "rolled_back"


def test_a_step_rejected_while_another_waits_for_an_agent_ends_the_plan() -> None:
    gated = restart("b", approval={"expires": "1h"})
    story = Story(compiled(look("a"), gated, mode="parallel"), fleet=[])
    assert story.outcome == "queued"
    assert story.decide("reject", "bob", "b").outcome == "rejected"


def test_a_step_that_fails_while_another_waits_for_approval_ends_the_plan() -> None:
    gated = restart("b", approval={"expires": "1h"})
    story = Story(compiled(look("a"), gated, mode="parallel", on_failure="stop"))
    story.end("a", "failed")
    assert (story.outcome, story.step("b")) == ("failed", "skipped")
    assert story.asked("b").state == "revoked"


def test_time_running_out_never_approves() -> None:
    story = Story(compiled(restart("a"), policy=at_level(1)))
    request = story.asked()
    assert request.expires_at == story.now + timedelta(hours=4)
    story.wait(hours=4)
    assert (story.outcome, story.granted()) == ("expired", [])
    with pytest.raises(Expired):
        commands.decide(story.state, request.approval_id, "approve", "bob", "", story.now)


def test_a_decision_in_the_last_moment_counts_and_one_later_does_not() -> None:
    story = Story(compiled(restart("a"), policy=at_level(1)))
    story.now += timedelta(hours=4)
    with pytest.raises(Expired):
        story.decide("approve", "bob")
    story.now -= timedelta(microseconds=1)
    assert story.decide("approve", "bob").running == ["a"]


def test_a_request_of_a_rollback_under_way_is_withdrawn() -> None:
    """Else its expiry would end the undo as expired."""
    gates = {"approval": {"expires": "1h"}}
    plan = compiled(
        write("a"), restart("b", **gates), look("c"), mode="parallel", on_failure="rollback"
    )
    story = Story(plan).complete("a").end("c", "failed")
    assert (story.outcome, story.asked("b").state) == ("rolling_back", "revoked")
    story.now += timedelta(hours=2)
    assert story.complete("a").outcome == "rolled_back"
    assert story.state.reason.startswith("step c failed")


def test_words_that_do_not_count_are_refused() -> None:
    story = Story(compiled(restart("a"), policy=at_level(2, people={2: 2})))
    request = story.asked()
    story.decide("approve", "bob")

    def say(approval_id: str, kind: str, person: str, reason: str = "") -> None:
        commands.decide(story.state, approval_id, kind, person, reason, story.now)

    with pytest.raises(AlreadyDecided):
        say(request.approval_id, "approve", "bob")
    with pytest.raises(InvalidArgument):
        say(request.approval_id, "reject", "eve")
    with pytest.raises(NotFound):
        say("appr_none", "approve", "eve")
    story.decide("approve", "eve")
    with pytest.raises(AlreadyDecided, match="is approved"):
        say(request.approval_id, "approve", "ann")


def edit(story: Story, plan: CompiledPlan, touched: set[str], step_id: str = "") -> Story:
    return story.happen(
        *commands.edit(
            story.state,
            story.asked(step_id).approval_id,
            "bob",
            "better so",
            {"steps": []},
            plan.to_json(),
            touched,
            story.now,
        )
    )


def test_an_edit_asks_for_the_plan_anew() -> None:
    policy = at_level(2)
    story = Story(compiled(restart("a"), policy=policy)).decide("request_changes", "bob")
    first = story.asked()
    assert (story.outcome, first.state) == ("approval_required", "changes_requested")
    better = compiled(restart("a", timeout="9s"), policy=policy, revision=2)
    edit(story, better, {"a"})
    assert story.state.approvals[first.approval_id].state == "superseded"
    assert (story.asked().revision, story.asked().plan_digest) == (2, better.plan_digest)
    with pytest.raises(Superseded):
        commands.decide(story.state, first.approval_id, "approve", "ann", "", story.now)
    assert story.decide("approve", "ann").running == ["a"]
    assert len(story.state.revisions) == 2


def test_a_harmless_edit_lets_the_plan_run_by_policy() -> None:
    story = Story(compiled(restart("a"), policy=at_level(2)))
    edit(story, compiled(look("a"), policy=FREE, revision=2), {"a"})
    assert story.running == ["a"]
    assert story.state.auto_approved_by == "policy:anything"


def test_an_edit_voids_only_approvals_of_the_steps_it_touches() -> None:
    steps = (restart("a"), restart("b", target="web-02"))
    story = Story(compiled(*steps, mode="parallel", policy=at_level(3)), fleet=[])
    story.decide("approve", "ann", "a")
    changed = (steps[0], restart("b", target="web-02", timeout="9s"))
    edit(story, compiled(*changed, mode="parallel", policy=at_level(3), revision=2), {"b"}, "b")
    assert story.asked("a").state == "approved"
    assert (story.asked("b").state, story.asked("b").revision) == ("pending", 2)
    assert story.step("a") == "queued"


def test_an_edit_after_a_request_for_changes_that_leaves_the_step_alone_asks_again() -> None:
    policy = at_level(3)
    story = Story(compiled(restart("a"), look("b"), policy=policy))
    story.decide("request_changes", "bob", "a")
    edit(story, compiled(restart("a"), write("b"), policy=policy, revision=2), {"b"}, "a")
    assert (story.asked("a").state, story.asked("a").revision) == ("pending", 2)


def gated_plan(revision: int, **fields: Any) -> CompiledPlan:
    """A plan approved as a whole, of which one step is asked for again when it comes up."""
    gated = restart("b", approval={"expires": "1h"}, **fields)
    steps = (write("a"), gated, write("c", target="web-02"))
    return compiled(*steps, mode="parallel", policy=at_level(2), revision=revision)


def test_an_edit_while_steps_run_asks_for_the_plan_before_anything_else_starts() -> None:
    story = Story(gated_plan(1))
    story.fleet = [replace(story.fleet[0], capacity=1)]
    story.decide("approve", "ann")
    assert (story.outcome, len(story.running)) == ("running", 1)
    edit(story, gated_plan(2, timeout="9s"), {"b"}, "b")
    assert (story.asked().revision, story.outcome) == (2, "approval_required")
    story.complete(story.running[0])
    assert story.running == []
    story.decide("approve", "ann")
    assert (story.outcome, len(story.running)) == ("running", 1)


def test_what_has_started_cannot_be_edited() -> None:
    story = Story(gated_plan(1)).decide("approve", "ann")
    with pytest.raises(InvalidTransition, match="step a has started"):
        edit(story, gated_plan(2), {"a"}, "b")


def test_a_changes_request_for_one_step_does_not_hold_another_back() -> None:
    gates = {"approval": {"expires": "1h"}}
    steps = (restart("a", **gates), restart("b", target="web-02", **gates))
    story = Story(compiled(*steps, mode="parallel"))
    story.decide("request_changes", "bob", "a").decide("approve", "bob", "b")
    assert story.running == ["b"]
    assert story.complete("b").outcome == "approval_required"


def test_nobody_is_asked_about_a_step_that_cannot_run() -> None:
    late = {"service": "${{ steps.a.output.text }}"}
    gated = restart("b", inputs=late, approval={"expires": "1h"})
    story = Story(compiled(look("a"), gated)).decide("approve", "bob").end("a", output={})
    assert (story.outcome, story.step("b")) == ("failed", "failed")
    assert [request.step_id for request in story.state.approvals.values()] == [""]


def test_cancel_withdraws_what_was_asked() -> None:
    story = Story(compiled(restart("a"), policy=at_level(1))).cancel()
    assert (story.outcome, story.asked().state) == ("cancelled", "revoked")
