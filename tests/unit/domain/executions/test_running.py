"""How steps run: in order, in parallel, on conditions, with outputs, to an end."""

from __future__ import annotations

from datetime import timedelta

import pytest

from helpers.plans import UNDO_CALL, Story, agent, compiled, look, restart, write
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.executions.advance import next_deadline
from opsconductor.orchestrator.domain.executions.changing import replace
from opsconductor.orchestrator.domain.executions.clock import Clock
from opsconductor.rpc.errors import InvalidTransition

LATE = {"service": "${{ steps.a.output.text }}"}
FAILED = {"a": "failed", "b": "skipped"}


def test_sequential_steps_run_one_after_the_other() -> None:
    story = Story(compiled(look("a"), look("b")))
    assert (story.outcome, story.running) == ("running", ["a"])
    story.complete("a")
    assert story.running == ["b"]
    story.complete("b")
    assert story.outcome == "completed"
    assert story.state.ended_at == story.now


def test_parallel_steps_run_together() -> None:
    story = Story(compiled(look("a"), look("b"), mode="parallel"))
    assert story.running == ["a", "b"]
    assert story.complete("b", "a").outcome == "completed"


def test_graph_steps_wait_for_what_they_need() -> None:
    story = Story(
        compiled(look("a"), look("b"), look("c", needs=["a", "b"]), look("d"), mode="graph")
    )
    assert story.running == ["a", "b", "d"]
    story.complete("a")
    assert "c" not in story.running
    story.complete("b")
    assert story.running == ["d", "c"]


def test_a_failure_stops_the_plan_and_what_runs_is_awaited() -> None:
    story = Story(
        compiled(look("a"), look("b"), look("c", needs=["b"]), mode="graph", on_failure="stop")
    )
    story.end("a", "failed")
    assert (story.outcome, story.running) == ("running", ["b"])
    story.complete("b")
    assert story.outcome == "failed"
    assert story.states == {"a": "failed", "b": "completed", "c": "skipped"}
    assert story.state.reason == "step a failed: it ended with EXIT_CODE"


def test_continue_skips_only_what_needs_the_failed_step() -> None:
    story = Story(
        compiled(
            look("a"),
            look("b", needs=["a"]),
            look("c"),
            look("d", needs=["c"]),
            mode="graph",
            on_failure="continue",
        )
    )
    story.end("a", "failed").complete("c").complete("d")
    assert story.states == {"a": "failed", "b": "skipped", "c": "completed", "d": "completed"}
    assert story.outcome == "failed"


@pytest.mark.parametrize("end", ["timed_out", "unreachable"])
def test_an_end_of_another_kind_than_failed_is_the_executions_too(end: str) -> None:
    assert Story(compiled(look("a"))).end("a", end).outcome == end


def test_ask_waits_for_a_person_who_lets_it_go_on() -> None:
    story = Story(compiled(look("a"), look("b"), mode="graph", on_failure="ask"))
    story.complete("b").end("a", "failed")
    assert story.outcome == "attention_required"
    assert "resume to go on" in story.state.reason
    story.happen(*commands.resume(story.state, "rita"))
    assert story.outcome == "failed"


def test_ask_goes_on_with_the_steps_that_can() -> None:
    steps = (look("a"), look("b", needs=["a"]), look("c", needs=["x"]), look("x"))
    story = Story(compiled(*steps, mode="graph", on_failure="ask"))
    story.end("a", "failed").complete("x")
    assert (story.outcome, story.running) == ("attention_required", [])
    story.happen(*commands.resume(story.state, "rita"))
    assert story.running == ["c"]
    assert story.complete("c").outcome == "failed"
    assert story.step("b") == "skipped"


def test_ask_before_anything_ran_can_be_answered_too() -> None:
    impossible = look("a", **{"if": "inputs.n / inputs.zero > 0"})
    inputs = {"n": 1, "zero": 0}
    story = Story(compiled(impossible, look("b"), on_failure="ask", inputs=inputs), fleet=[])
    assert (story.outcome, story.step("a")) == ("attention_required", "failed")
    story.happen(*commands.resume(story.state, "rita"))
    assert story.states == FAILED
    assert story.outcome == "failed"


def test_a_false_condition_skips_a_step_and_its_dependents_run() -> None:
    story = Story(
        compiled(look("a", **{"if": "inputs.wanted"}), look("b"), inputs={"wanted": False})
    )
    assert story.step("a") == "skipped"
    assert story.running == ["b"]
    assert story.complete("b").outcome == "completed"


def test_a_condition_reads_what_an_earlier_step_found() -> None:
    plan = compiled(look("a"), look("b", **{"if": "steps.a.output.text == 'yes'"}))
    assert Story(plan).end("a", output={"text": "yes"}).running == ["b"]
    assert Story(plan).end("a", output={"text": "no"}).step("b") == "skipped"


def test_a_condition_that_cannot_be_decided_fails_the_step() -> None:
    plan = compiled(look("a"), look("b", **{"if": "steps.a.output.text == 'yes'"}))
    story = Story(plan).end("a", output={})
    assert (story.outcome, story.step("b")) == ("failed", "failed")
    assert story.state.steps["b"].error["code"] == "CONDITION_FAILED"


def test_an_input_takes_the_output_of_an_earlier_step() -> None:
    story = Story(compiled(look("a"), restart("b", inputs=LATE))).decide("approve", "bob")
    story.end("a", output={"text": "nginx"})
    assert story.state.steps["b"].late_inputs == {"service": "nginx"}


def test_an_input_that_cannot_be_resolved_fails_the_step_before_it_starts() -> None:
    story = Story(compiled(look("a"), restart("b", inputs=LATE))).decide("approve", "bob")
    story.end("a", output={})
    assert (story.outcome, story.step("b"), story.granted()) == ("failed", "failed", ["a"])


def test_cancel_before_anything_started_is_clean() -> None:
    story = Story(compiled(look("a"), look("b")), fleet=[])
    assert story.cancel().outcome == "cancelled"
    assert story.states == {"a": "skipped", "b": "skipped"}


def test_cancelled_is_written_only_when_everything_has_ended() -> None:
    story = Story(compiled(look("a"), look("b"), mode="parallel")).cancel()
    assert story.outcome == "cancelling"
    story.end("a", "cancelled")
    assert story.outcome == "cancelling"
    assert story.end("b", "not_started", error=error_cancelled()).outcome == "cancelled"
    assert story.step("b") == "cancelled"


def error_cancelled() -> dict[str, str]:
    return {"code": "TAKEN_BACK", "message": "taken back", "error_class": "non_retryable"}


def test_survivors_of_a_cancel_are_said() -> None:
    story = Story(compiled(restart("a"))).start("a").cancel()
    story.end("a", "cancel_unverified", effects="possible", survivors=["pid 7"])
    assert story.outcome == "cancel_unverified"
    assert "what a left behind" in story.state.reason


def test_a_step_that_completes_while_it_is_cancelled_is_completed() -> None:
    story = Story(compiled(look("a"), look("b"))).cancel().complete("a")
    assert (story.outcome, story.step("a"), story.step("b")) == (
        "cancelled",
        "completed",
        "skipped",
    )


def test_what_outlived_its_time_limit_is_not_called_cancelled() -> None:
    story = Story(compiled(write("a"), look("b"), mode="parallel")).start("a")
    story.end("a", "timed_out", effects="possible", survivors=["pid 7"])
    story.cancel().end("b", "cancelled")
    assert story.outcome == "cancel_unverified"
    assert "what a left behind could not be verified" in story.state.reason


def test_what_could_not_be_verified_can_still_be_undone() -> None:
    story = Story(compiled(write("a", undo={**UNDO_CALL, "target": "10.0.0.9"}), look("b"))).start(
        "a"
    )
    story.cancel().end("a", "cancel_unverified", effects="possible", survivors=["pid 7"])
    assert story.outcome == "cancel_unverified"
    story.happen(*commands.rollback(story.state, "rita", "nothing of it runs any more"))
    assert story.running == ["a"]
    assert story.complete("a").outcome == "rolled_back"


def test_what_was_ended_at_its_time_limit_leaves_nothing_to_verify() -> None:
    story = Story(compiled(write("a"), look("b"), mode="parallel")).start("a")
    story.end("a", "timed_out", effects="possible").cancel().end("b", "cancelled")
    assert story.outcome == "cancelled"


def test_a_second_cancel_changes_nothing() -> None:
    story = Story(compiled(look("a"))).cancel()
    assert commands.cancel(story.state, "rita", "again") == ()


def test_the_plans_own_time_ends_what_runs_and_starts_nothing_more() -> None:
    story = Story(compiled(look("a"), look("b"), timeout="10s")).wait(seconds=10)
    assert (story.state.stopping, story.running) == ("timeout", ["a"])
    story.end("a", "cancelled")
    assert story.outcome == "timed_out"
    assert story.state.reason == "the plan's time limit of 10 s ran out"
    assert story.step("b") == "skipped"


@pytest.mark.parametrize("hours", [-24, 1])
def test_a_clock_that_is_set_makes_the_plans_own_time_neither_shorter_nor_longer(
    hours: int,
) -> None:
    story = Story(compiled(look("a"), timeout="10s"), clock=Clock("c")).wait(seconds=4)
    story.set_clock(hours=hours)
    assert story.wait(seconds=5.9).state.stopping == ""
    assert next_deadline(story.state, story.now) == story.now + timedelta(seconds=0.1)
    assert story.wait(seconds=0.1).state.stopping == "timeout"


def test_a_clock_that_was_set_before_a_plan_began_is_the_time_of_day() -> None:
    story = Story(compiled(look("a"), timeout="10s"), fleet=[], clock=Clock("c"))
    story.set_clock(hours=1)
    story.fleet = [agent()]
    assert story.wait(seconds=1).running == ["a"]
    assert story.wait(seconds=9.9).state.stopping == ""
    assert story.wait(seconds=0.1).state.stopping == "timeout"


def test_by_another_clock_a_plans_own_time_is_the_time_of_day() -> None:
    story = Story(compiled(look("a"), timeout="10s"), clock=Clock("c"))
    story.state = replace(story.state, clock=Clock("other", (timedelta(hours=1),)))
    assert story.wait(seconds=9.9).state.stopping == ""
    assert story.wait(seconds=0.1).state.stopping == "timeout"


def test_a_pause_starts_nothing_new_and_resume_goes_on() -> None:
    story = Story(compiled(look("a"), look("b")))
    story.happen(*commands.pause(story.state, "rita", "lunch"))
    story.complete("a")
    assert (story.outcome, story.running) == ("paused", [])
    story.happen(*commands.resume(story.state, "rita"))
    assert (story.outcome, story.running, story.state.reason) == ("running", ["b"], "")


def test_a_pause_before_the_first_step_keeps_it_queued() -> None:
    story = Story(compiled(look("a")), fleet=[])
    story.happen(*commands.pause(story.state, "rita", ""))
    story.happen(*commands.resume(story.state, "rita"))
    assert story.outcome == "queued"


def test_what_has_ended_cannot_be_paused_or_resumed() -> None:
    story = Story(compiled(look("a"))).complete("a")
    with pytest.raises(InvalidTransition):
        commands.pause(story.state, "rita", "")
    with pytest.raises(InvalidTransition):
        commands.resume(story.state, "rita")
    assert commands.cancel(story.state, "rita", "") == ()


def test_a_paused_plan_still_runs_out_of_time() -> None:
    story = Story(compiled(look("a"), look("b"), timeout="10s"))
    story.happen(*commands.pause(story.state, "rita", ""))
    story.complete("a").wait(seconds=10)
    assert story.outcome == "timed_out"
