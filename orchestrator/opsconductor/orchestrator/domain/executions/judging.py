"""What the end of an attempt means for its step: completed, given up, tried again, or unknown."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.execution import FORWARD, Attempt, Execution
from opsconductor.orchestrator.domain.executions.states import AttemptState, ExecutionState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from opsconductor.orchestrator.domain.plans.compiled import CompiledStep

REQUEUE_CODES = frozenset(
    {
        "START_TTL_EXPIRED",
        "STALE_EPOCH",
        "AGENT_DRAINING",
        "AGENT_FULL",
        "AGENT_STOPPING",
        "TAKEN_BACK",
        "DISK_FULL",
    }
)
"""Refusals that say nothing about the step: it may be granted again, here or elsewhere."""

REQUEUE_DELAY = timedelta(milliseconds=500)
LONGEST_REQUEUE_DELAY = timedelta(seconds=30)
MAX_REFUSALS = 30
"""A step that no agent takes so often in a row is given up: it never started."""
READ_ATTEMPTS_AFTER_UNKNOWN = 5
"""A read whose agent died is tried again at most so often in total."""


def judge_forward(state: Execution, attempt: Attempt, now: datetime) -> ev.Event:
    """Returns the event that an ended forward attempt leads to."""
    step = state.compiled_step(attempt.step_id)
    if attempt.state is AttemptState.COMPLETED:
        return ev.StepFinished(step.step_id, "completed", None, attempt.output)
    if attempt.state is AttemptState.NOT_STARTED:
        return _not_started(state, step, attempt, now)
    if _may_retry(state, step, attempt):
        wait = delay(step.body["retry"], tries(state, step.step_id), attempt.attempt_id)
        reason = (attempt.error or {}).get("message") or str(attempt.state)
        return ev.RetryScheduled(step.step_id, (now + wait).isoformat(), reason, state.clock.mark)
    final = attempt.state
    if final is AttemptState.UNKNOWN and not step.changes:
        final = AttemptState.FAILED
    return ev.StepFinished(step.step_id, str(final), attempt.error, attempt.output)


def tries(state: Execution, step_id: str) -> int:
    """Returns how many forward attempts of a step have started or may have."""
    return sum(
        1
        for attempt in state.attempts_of(step_id, FORWARD)
        if attempt.state is not AttemptState.NOT_STARTED
    )


def delay(retry: Mapping[str, Any], number: int, seed: str) -> timedelta:
    """Returns the wait before the next attempt.

    Args:
        retry: The body's retry section, times in milliseconds.
        number: Attempts made so far, from 1.
        seed: Makes the jitter; the same seed gives the same wait, so that a replay agrees.
    """
    base = float(retry["base_ms"])
    if retry["backoff"] == "linear":
        wait = base + retry["increment_ms"] * (number - 1)
    elif retry["backoff"] == "exponential":
        wait = base * float(retry["factor"]) ** min(number - 1, 60)
    else:
        wait = base
    if retry["max_ms"]:
        wait = min(wait, retry["max_ms"])
    if retry["jitter"]:
        wait *= 0.5 + _share(seed) / 2
    return timedelta(milliseconds=min(wait, 86_400_000.0))


def _share(seed: str) -> float:
    """Returns a number from 0 to 1 that the seed decides."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") / 2**32


def _not_started(state: Execution, step: CompiledStep, attempt: Attempt, now: datetime) -> ev.Event:
    code = (attempt.error or {}).get("code", "")
    if _ending(state):
        return ev.StepFinished(step.step_id, "cancelled", attempt.error)
    if code not in REQUEUE_CODES:
        return ev.StepFinished(step.step_id, "failed", attempt.error)
    if wait := requeue_delay(state, attempt):
        return ev.RetryScheduled(step.step_id, (now + wait).isoformat(), code, state.clock.mark)
    return ev.StepFinished(step.step_id, "failed", refused_too_often(attempt))


def requeue_delay(state: Execution, attempt: Attempt) -> timedelta | None:
    """Returns the wait after a refusal, longer after each in a row; None when it is enough."""
    refusals = 0
    for other in reversed(state.attempts_of(attempt.step_id, attempt.kind)):
        if other.state is not AttemptState.NOT_STARTED:
            break
        refusals += 1
    if refusals >= MAX_REFUSALS:
        return None
    wait: timedelta = min(REQUEUE_DELAY * float(2 ** (refusals - 1)), LONGEST_REQUEUE_DELAY)
    return wait * (0.5 + _share(attempt.attempt_id) / 2)


def refused_too_often(attempt: Attempt) -> dict[str, str]:
    """Returns the error of a step that no agent takes."""
    error = attempt.error or {}
    return {
        "code": "NOT_TAKEN",
        "message": f"no agent took it in {MAX_REFUSALS} tries; the last refusal: "
        f"{error.get('message') or error.get('code', '')}",
        "error_class": "non_retryable",
    }


def _ending(state: Execution) -> bool:
    return bool(state.stopping) or state.state is ExecutionState.CANCELLING


def _may_retry(state: Execution, step: CompiledStep, attempt: Attempt) -> bool:
    if _ending(state) or attempt.state in (
        AttemptState.CANCELLED,
        AttemptState.CANCEL_UNVERIFIED,
    ):
        return False
    made = tries(state, step.step_id)
    if attempt.state is AttemptState.UNKNOWN:
        return not step.changes and made < READ_ATTEMPTS_AFTER_UNKNOWN
    if made >= step.body["retry"]["max_attempts"]:
        return False
    safe = attempt.effects == "none" or step.body["idempotent"]
    if attempt.state is AttemptState.TIMED_OUT and step.changes:
        return False
    return safe and _matches(step.body["retry"]["on"], attempt)


def _matches(wanted: list[str], attempt: Attempt) -> bool:
    """Tells whether the step retries on a failure: by class, state, code or pattern, or on any."""
    error = attempt.error or {}
    if not wanted:
        return error.get("error_class") != "non_retryable"
    names = {str(attempt.state), error.get("error_class"), error.get("code")}
    names |= {"timeout"} if attempt.state is AttemptState.TIMED_OUT else set()
    message = error.get("message", "")
    return any(item in names or _found(item, message) for item in wanted)


def _found(pattern: str, message: str) -> bool:
    try:
        return re.search(pattern, message) is not None
    except re.error:
        return pattern in message
