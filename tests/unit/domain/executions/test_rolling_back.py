"""How what was done is taken back: by which means, in which order, and how it ends."""

from __future__ import annotations

import pytest

from helpers.plans import AGAIN, UNDO_CALL, Story, agent, compiled, error, look, restart, write
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.executions.advance import next_deadline
from opsconductor.orchestrator.domain.executions.place import last_effective, ready_steps
from opsconductor.rpc.errors import InvalidTransition, PointOfNoReturn

CALL = {"undo": UNDO_CALL}


def failing(*changes: dict[str, object], **top: object) -> Story:
    """A plan whose last step, a look, fails after all changes are done."""
    story = Story(compiled(*changes, look("end"), on_failure="rollback", **top))  # type: ignore[arg-type]
    for step in changes:
        story.start(str(step["id"])).complete(str(step["id"]))
    return story.end("end", "failed")


def test_steps_are_undone_in_reverse_order_of_their_start() -> None:
    story = failing(restart("a", **CALL), look("read"), restart("b", **CALL), write("c"))
    assert story.outcome == "rolling_back"
    story.complete("c", "b", "a")
    assert (story.outcome, story.granted("undo")) == ("rolled_back", ["c", "b", "a"])
    assert story.states["a"] == "rolled_back"
    assert story.states["read"] == "completed"
    assert story.state.reason == "step end failed: it ended with EXIT_CODE"


def test_one_step_is_undone_at_a_time() -> None:
    story = failing(write("a"), write("b"))
    assert story.running == ["b"]
    assert story.complete("b").running == ["a"]


def test_only_steps_that_may_have_had_effects_are_undone() -> None:
    story = Story(compiled(write("a"), write("b"), on_failure="rollback"))
    story.start("a").complete("a").end("b", "failed", effects="none")
    assert story.running == ["a"]
    assert story.complete("a").outcome == "rolled_back"


def test_a_failed_step_with_effects_is_undone_itself() -> None:
    story = Story(compiled(write("a"), on_failure="rollback")).start("a")
    story.end("a", "failed", effects="possible")
    assert story.complete("a").outcome == "rolled_back"


def test_a_failure_without_effects_leaves_nothing_to_undo() -> None:
    story = Story(compiled(look("a"), on_failure="rollback")).end("a", "unreachable")
    assert story.outcome == "unreachable"
    assert story.state.reason.endswith("there was nothing to undo")


def test_an_undo_by_state_goes_to_the_agent_that_captured_it() -> None:
    story = Story(compiled(write("a"), look("b"), on_failure="rollback"))
    story.start("a", captured={"exists": False}).complete("a")
    story.fleet = [agent("a2"), agent("a3")]
    story.end("b", "failed")
    (ready,) = ready_steps(story.state, story.now)
    assert (ready.kind, ready.demand.agent_id) == ("undo", "a1")
    effective = last_effective(story.state, "a")
    assert effective is not None
    assert effective.captured == {"exists": False}
    story.fleet.append(agent("a1"))
    assert story.happen().running == ["a"]


def test_an_undo_by_call_may_run_anywhere() -> None:
    story = Story(compiled(restart("a", **CALL), look("b"), on_failure="rollback"))
    story.complete("a")
    story.fleet = [agent("a2")]
    assert story.end("b", "failed").running == ["a"]


def test_an_undo_by_hand_is_left_to_a_person_and_the_rest_is_undone() -> None:
    story = failing(write("a"), restart("b", undo={"manual": "call the bank"}))
    assert story.complete("a").outcome == "rollback_failed"
    assert story.states["b"] == "rollback_failed"
    assert "call the bank" in story.state.reason


def test_a_step_without_an_undo_is_left_and_said() -> None:
    remove = {"id": "b", "tool": "run_command", "inputs": {"argv": ["rm", "/x"]}, "undo": "none"}
    plan = compiled(write("a"), remove, look("end"), on_failure="rollback")
    story = Story(plan).decide("approve", "bob").complete("a", "b").end("end", "failed")
    story.complete("a")
    assert (story.outcome, story.states["b"]) == ("rolled_back", "completed")
    assert story.state.reason.endswith("without an undo, left as they are: b")


def test_an_irreversible_step_stops_the_rollback() -> None:
    plan = compiled(write("a"), restart("b", irreversible=True), look("end"), on_failure="rollback")
    story = Story(plan).complete("a", "b").end("end", "failed")
    assert (story.outcome, story.granted("undo")) == ("failed", [])
    assert "point of no return" in story.state.reason
    with pytest.raises(PointOfNoReturn):
        story.rollback()


def test_an_undo_that_had_no_effects_is_tried_again() -> None:
    story = failing(write("a"))
    for number in (1, 2):
        assert story.live("a").number == number
        story.end("a", "unreachable")
        assert next_deadline(story.state, story.now) is not None
        story.wait(seconds=1)
    assert story.end("a", "unreachable").outcome == "rollback_failed"


def test_an_undo_that_failed_with_effects_is_not_tried_again() -> None:
    story = failing(write("a"), write("b")).end("b", "failed", effects="possible").complete("a")
    assert (story.outcome, story.states["b"]) == ("rollback_failed", "rollback_failed")
    assert story.states["a"] == "rolled_back"


def test_a_refused_undo_is_granted_anew() -> None:
    story = failing(write("a")).end("a", "not_started", error=error("AGENT_FULL"))
    assert story.wait(seconds=1).complete("a").outcome == "rolled_back"


def test_an_undo_is_tried_again_although_the_plans_time_has_run_out() -> None:
    """The limit that has passed must not hide the moment of the next attempt."""
    plan = compiled(write("a"), look("b"), timeout="10s", on_failure="rollback")
    story = Story(plan).start("a").complete("a").wait(seconds=10).end("b", "cancelled")
    assert story.outcome == "rolling_back"
    story.end("a", "unreachable")
    assert next_deadline(story.state, story.now) == story.state.steps["a"].not_before
    assert story.wait(seconds=1).complete("a").outcome == "rolled_back"


def test_the_plans_own_rollback_calls_run_after_the_steps_undos() -> None:
    story = failing(write("a"), rollback=[{"tool": "run_command", "inputs": {"argv": ["uname"]}}])
    assert story.running == ["a"]
    assert story.complete("a").running == ["rollback-1"]
    assert story.complete("rollback-1").outcome == "rolled_back"


def test_a_failed_rollback_call_is_said() -> None:
    story = failing(write("a"), rollback=[{"tool": "run_command", "inputs": {"argv": ["uname"]}}])
    story.complete("a").end("rollback-1", "failed")
    assert story.outcome == "rollback_failed"
    assert "rollback call rollback-1 failed" in story.state.reason


def test_rollback_calls_do_not_run_when_nothing_started() -> None:
    plan = compiled(
        look("a", **{"if": "inputs.n / inputs.zero > 0"}),
        inputs={"n": 1, "zero": 0},
        on_failure="rollback",
        rollback=[{"tool": "run_command", "inputs": {"argv": ["uname"]}}],
    )
    story = Story(plan)
    assert (story.outcome, story.granted()) == ("failed", [])


def test_a_finished_execution_is_rolled_back_from_history() -> None:
    story = Story(compiled(write("a"), write("b"))).complete("a", "b")
    story.wait(days=3).rollback()
    assert (story.outcome, story.state.ended_at) == ("rolling_back", None)
    story.complete("b", "a")
    assert (story.outcome, story.state.ended_at) == ("rolled_back", story.now)
    assert story.state.reason == "asked for by rita: not wanted"
    with pytest.raises(InvalidTransition):
        story.rollback()


def test_a_rollback_that_failed_is_asked_for_again() -> None:
    story = failing(write("a")).end("a", "failed", effects="possible")
    assert story.outcome == "rollback_failed"
    story.rollback()
    assert story.complete("a").outcome == "rolled_back"


def test_a_rollback_without_effects_or_while_it_runs_is_refused() -> None:
    with pytest.raises(InvalidTransition, match="no step had effects"):
        Story(compiled(look("a"))).complete("a").rollback()
    with pytest.raises(InvalidTransition, match="cancel it first"):
        Story(compiled(write("a"))).rollback()


def test_a_rollback_instead_of_going_on_leaves_no_step_waiting() -> None:
    plan = compiled(write("a"), look("b"), look("c"), on_failure="ask")
    story = Story(plan).complete("a").end("b", "failed").rollback().complete("a")
    assert story.outcome == "rolled_back"
    assert story.states["c"] == "skipped"


def test_cancelling_an_undo_leaves_the_rest_to_be_asked_for() -> None:
    story = failing(write("a"), write("b")).cancel().end("b", "cancelled")
    assert (story.outcome, story.granted("undo")) == ("cancelled", ["b"])
    assert story.states["b"] == "rollback_failed"
    assert story.states["a"] == "completed"
    story.rollback().complete("b", "a")
    assert (story.outcome, story.states["b"]) == ("rolled_back", "rolled_back")


def test_an_undo_that_waits_for_its_agent_can_be_cancelled() -> None:
    story = Story(compiled(write("a"), look("b"), on_failure="rollback")).complete("a")
    story.fleet = []
    story.end("b", "failed").cancel()
    assert (story.outcome, story.states["a"]) == ("cancelled", "rollback_failed")


def test_what_an_undo_left_behind_is_never_called_cancelled() -> None:
    story = failing(write("a")).cancel().end("a", "cancel_unverified", effects="possible")
    assert story.outcome == "cancel_unverified"
    assert "the undo of a" in story.state.reason


def test_a_step_tried_twice_is_undone_once() -> None:
    story = Story(compiled(write("a", retry=AGAIN), look("b"), on_failure="rollback")).start("a")
    story.end("a", "failed", effects="possible").wait(seconds=2).complete("a").end("b", "failed")
    story.complete("a")
    assert (story.outcome, story.granted("undo")) == ("rolled_back", ["a"])


def test_a_rolled_back_plan_refuses_pause() -> None:
    story = failing(write("a"))
    with pytest.raises(InvalidTransition):
        commands.pause(story.state, "rita", "")
