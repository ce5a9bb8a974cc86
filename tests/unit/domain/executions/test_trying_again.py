"""When a step is tried again, when it is not, and what an unknown outcome asks of people."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.plans import AGAIN, Story, compiled, error, look, restart, write
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.executions.clock import Clock
from opsconductor.orchestrator.domain.executions.judging import READ_ATTEMPTS_AFTER_UNKNOWN, delay
from opsconductor.rpc.errors import InvalidArgument, InvalidTransition, NotFound

UNREACHABLE_ONLY = {**AGAIN, "on": ["unreachable"]}


def test_a_failed_read_is_tried_again_after_its_delay() -> None:
    story = Story(compiled(look("a", retry=AGAIN))).end("a", "failed")
    assert (story.step("a"), story.running) == ("queued", [])
    assert story.wait(seconds=1.9).running == []
    assert story.wait(seconds=0.1).running == ["a"]
    assert story.live("a").number == 2
    assert story.complete("a").outcome == "completed"


def test_a_clock_that_was_set_back_does_not_make_a_retry_wait_for_a_day() -> None:
    story = Story(compiled(look("a", retry=AGAIN))).end("a", "failed")
    assert story.wait(seconds=-30).running == []
    assert story.wait(seconds=-86_400).running == ["a"]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_makes_the_next_try_neither_sooner_nor_later(hours: int) -> None:
    story = Story(compiled(look("a", retry=AGAIN)), clock=Clock("c")).end("a", "failed")
    story.set_clock(hours=hours)
    assert story.wait(seconds=1.9).running == []
    assert story.wait(seconds=0.1).running == ["a"]
    # What is waited for after the step goes by the clock as it was set.
    story.end("a", "failed")
    assert story.wait(seconds=1.9).running == []
    assert story.wait(seconds=0.1).running == ["a"]


def test_attempts_are_not_made_beyond_their_number() -> None:
    story = Story(compiled(look("a", retry=AGAIN)))
    for _ in range(3):
        story.end("a", "failed").wait(seconds=2)
    assert (story.outcome, story.granted()) == ("failed", ["a"] * 3)


def test_only_failures_of_the_classes_named_are_tried_again() -> None:
    plan = compiled(look("a", retry={**AGAIN, "on": ["throttled", "ThrottlingException"]}))
    assert Story(plan).end("a", "failed").outcome == "failed"
    assert Story(plan).end("a", "failed", error=error("X", "throttled")).step("a") == "queued"
    by_text = {"code": "X", "message": "an error (ThrottlingException) occurred", "error_class": ""}
    assert Story(plan).end("a", "failed", error=by_text).step("a") == "queued"


def test_a_failure_that_is_not_retryable_is_not_tried_again() -> None:
    story = Story(compiled(look("a", retry=AGAIN)))
    assert story.end("a", "failed", error=error("INPUT", "non_retryable")).outcome == "failed"


def test_a_change_that_is_not_idempotent_is_not_tried_again_once_it_had_effects() -> None:
    story = Story(compiled(restart("a", retry=UNREACHABLE_ONLY))).start("a")
    story.end("a", "unreachable", effects="possible")
    assert (story.outcome, story.granted()) == ("unreachable", ["a"])


def test_a_change_without_effects_is_tried_again() -> None:
    story = Story(compiled(restart("a", retry=UNREACHABLE_ONLY)))
    story.end("a", "unreachable", effects="none").wait(seconds=2)
    assert story.running == ["a"]
    assert story.state.steps["a"].effects == "none"


def test_an_idempotent_change_is_tried_again_after_effects() -> None:
    story = Story(compiled(write("a", retry=AGAIN))).start("a")
    story.end("a", "failed", effects="possible").wait(seconds=2)
    assert story.running == ["a"]


def test_a_change_that_timed_out_is_not_tried_again() -> None:
    story = Story(compiled(write("a", retry=AGAIN))).start("a")
    assert story.end("a", "timed_out", effects="possible").outcome == "timed_out"


def test_effects_of_an_earlier_attempt_are_not_forgotten() -> None:
    story = Story(compiled(write("a", retry=AGAIN))).start("a")
    story.end("a", "failed", effects="possible").wait(seconds=2)
    story.end("a", "failed", effects="none").wait(seconds=2).end("a", "failed", effects="none")
    assert story.state.steps["a"].effects == "possible"


@pytest.mark.parametrize("code", ["START_TTL_EXPIRED", "AGENT_FULL", "STALE_EPOCH"])
def test_a_refusal_that_says_nothing_of_the_step_is_granted_anew(code: str) -> None:
    story = Story(compiled(restart("a"))).end("a", "not_started", error=error(code))
    assert story.running == []
    story.wait(seconds=0.5)
    assert story.running == ["a"]
    assert story.complete("a").outcome == "completed"


def test_a_refusal_of_the_step_fails_it() -> None:
    story = Story(compiled(restart("a"))).end("a", "not_started", error=error("POLICY_DENIED"))
    assert story.outcome == "failed"
    assert story.state.steps["a"].effects == "none"


def test_nothing_is_tried_again_while_the_plan_is_cancelled() -> None:
    story = Story(compiled(look("a", retry=AGAIN))).cancel().end("a", "failed")
    assert (story.outcome, story.step("a")) == ("cancelled", "failed")


def test_a_read_whose_outcome_is_unknown_is_tried_again_a_few_times() -> None:
    story = Story(compiled(look("a")))
    for _ in range(READ_ATTEMPTS_AFTER_UNKNOWN - 1):
        story.end("a", "unknown").wait(seconds=1)
        assert story.running == ["a"]
    assert story.end("a", "unknown").outcome == "failed"


def unknown() -> Story:
    plan = compiled(restart("a"), look("b"), on_failure="stop")
    return Story(plan).start("a").end("a", "unknown", effects="possible")


def test_an_unknown_change_waits_for_a_person() -> None:
    story = unknown()
    assert (story.outcome, story.step("a"), story.running) == ("attention_required", "unknown", [])
    assert "outcome of step a is unknown" in story.state.reason
    assert story.wait(days=30).outcome == "attention_required"


def test_a_person_says_that_it_completed() -> None:
    story = unknown().resolve("a", "completed")
    assert (story.outcome, story.running, story.state.reason) == ("running", ["b"], "")
    assert story.state.steps["a"].resolved_by == "rita"
    assert story.complete("b").outcome == "completed"


def test_a_person_says_that_it_failed() -> None:
    story = unknown().resolve("a", "failed")
    assert (story.outcome, story.state.steps["a"].effects) == ("failed", "possible")


def test_a_person_lets_it_be_tried_again() -> None:
    story = unknown()
    first = story.state.steps["a"].attempt_ids[-1]
    story.resolve("a", "retry")
    assert (story.running, story.live("a").number) == (["a"], 2)
    assert story.state.resolutions == ((first, "", ""),)


def test_two_unknown_outcomes_are_both_asked_about() -> None:
    second = restart("b", target="web-02")
    story = Story(compiled(restart("a"), second, mode="parallel")).start("a", "b")
    story.end("a", "unknown").end("b", "unknown").resolve("a", "completed")
    assert story.outcome == "attention_required"
    assert story.resolve("b", "completed").outcome == "completed"


def test_a_step_gate_does_not_hide_an_unknown_outcome() -> None:
    gated = restart("b", target="web-02", approval={"expires": "1h"})
    story = Story(compiled(restart("a"), gated, mode="parallel")).start("a").end("a", "unknown")
    assert story.outcome == "attention_required"
    story.resolve("a", "completed")
    assert (story.outcome, story.running) == ("approval_required", [])


def test_what_is_said_of_an_unknown_outcome_needs_a_reason_and_an_unknown_step() -> None:
    story = unknown()
    resolve = commands.resolve_unknown
    with pytest.raises(InvalidArgument):
        resolve(story.state, "a", "failed", "rita", "")
    with pytest.raises(InvalidTransition):
        resolve(story.state, "b", "failed", "rita", "looked")
    with pytest.raises(NotFound):
        resolve(story.state, "nope", "failed", "rita", "looked")
    with pytest.raises(InvalidTransition, match="runs resolve"):
        commands.resume(story.state, "rita")


def test_an_unknown_outcome_cannot_be_called_cancelled() -> None:
    assert unknown().cancel().outcome == "cancel_unverified"


RETRIES = st.fixed_dictionaries(
    {
        "backoff": st.sampled_from(["fixed", "linear", "exponential"]),
        "base_ms": st.integers(0, 10_000),
        "increment_ms": st.integers(0, 10_000),
        "factor": st.floats(1, 10),
        "max_ms": st.integers(0, 60_000),
        "jitter": st.booleans(),
    }
)


@given(RETRIES, st.integers(1, 1000), st.text())
def test_delays_are_bounded_repeatable_and_at_least_half_of_what_is_asked(
    retry: dict[str, object], number: int, seed: str
) -> None:
    wait = delay(retry, number, seed)
    assert wait == delay(retry, number, seed)
    full = delay({**retry, "jitter": False}, number, seed)
    assert full / 2 - timedelta(milliseconds=1) <= wait <= full <= timedelta(days=1)
    if retry["max_ms"]:
        assert full <= timedelta(milliseconds=float(str(retry["max_ms"])))


def test_delays_grow_as_the_plan_says() -> None:
    retry = {"base_ms": 100, "increment_ms": 50, "factor": 3.0, "max_ms": 800, "jitter": False}
    waits = {
        backoff: [
            delay({**retry, "backoff": backoff}, n, "") // timedelta(milliseconds=1)
            for n in (1, 2, 3, 9)
        ]
        for backoff in ("fixed", "linear", "exponential")
    }
    assert waits == {
        "fixed": [100, 100, 100, 100],
        "linear": [100, 150, 200, 500],
        "exponential": [100, 300, 800, 800],
    }
