"""What agents refuse to take is offered again ever more slowly, and not for ever."""

from __future__ import annotations

from datetime import timedelta

import pytest

from helpers.plans import Story, compiled, error, look, write
from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.judging import (
    LONGEST_REQUEUE_DELAY,
    MAX_REFUSALS,
    REQUEUE_CODES,
    REQUEUE_DELAY,
)


def refuse(story: Story, code: str = "AGENT_FULL", step_id: str = "a") -> timedelta | None:
    """Lets the agent refuse what it has; returns how long the step waits, None if it has ended."""
    (attempt,) = [item for item in story.state.live_attempts() if item.step_id == step_id]
    refused = ev.AttemptFinished(attempt.attempt_id, "not_started", "none", error=error(code))
    story.happen(refused)
    until = story.state.steps[step_id].not_before
    return until - story.now if until else None


def wait(story: Story, delay: timedelta) -> None:
    story.now += delay
    story.happen()


@pytest.mark.parametrize("code", sorted(REQUEUE_CODES))
def test_each_refusal_in_a_row_makes_the_wait_longer_up_to_a_bound(code: str) -> None:
    story = Story(compiled(look("a")))
    delays = []
    for _ in range(10):
        delay = refuse(story, code)
        assert delay is not None
        delays.append(delay)
        wait(story, delay)
    for number, delay in enumerate(delays):
        most = min(REQUEUE_DELAY * 2**number, LONGEST_REQUEUE_DELAY)
        assert most / 2 <= delay <= most
    assert len(set(delays)) == len(delays)  # jitter: a fleet does not come back in one moment


def test_a_step_that_no_agent_takes_fails_without_effects() -> None:
    story = Story(compiled(write("a")))
    for _ in range(MAX_REFUSALS - 1):
        delay = refuse(story)
        assert delay is not None
        wait(story, delay)
    assert refuse(story) is None
    step = story.state.steps["a"]
    assert (step.state, step.effects, step.error["code"]) == ("failed", "none", "NOT_TAKEN")
    assert "AGENT_FULL" in step.error["message"]


def test_a_refusal_that_says_something_about_the_step_is_not_repeated() -> None:
    story = Story(compiled(look("a")))
    assert refuse(story, "POLICY_DENIED") is None
    assert story.state.steps["a"].state == "failed"


def test_an_undo_that_no_agent_takes_is_given_up_too() -> None:
    story = Story(compiled(write("a"), look("b", needs=["a"]), mode="graph", on_failure="rollback"))
    done = next(story.state.live_attempts())
    story.happen(ev.AttemptFinished(done.attempt_id, "completed", "done", captured={"stdout": "x"}))
    failing = next(story.state.live_attempts())
    story.happen(ev.AttemptFinished(failing.attempt_id, "failed", "none", error=error()))
    for _ in range(MAX_REFUSALS):
        assert story.state.state == "rolling_back"
        delay = refuse(story)
        wait(story, delay or timedelta())
    assert story.state.steps["a"].state == "rollback_failed"
    assert story.state.steps["a"].error["code"] == "NOT_TAKEN"


def test_what_an_agent_says_after_it_was_given_up_is_shown_and_decides_nothing() -> None:
    story = Story(compiled(write("a")))
    attempt = next(story.state.live_attempts())
    story.happen(ev.AttemptFinished(attempt.attempt_id, "unknown", "possible", error=error()))
    assert story.state.state == "attention_required"
    story.happen(ev.LateEvidence(attempt.attempt_id, "completed", "done", 0))
    assert story.state.steps["a"].state == "unknown"
    assert story.state.attempts[attempt.attempt_id].late == "completed"
    story.happen(ev.UnknownResolved("a", attempt.attempt_id, "failed", "olga", "I looked", "", ""))
    assert story.state.steps["a"].state == "failed"
