"""What is too much to wait for is refused by the server, and opsctl says when to come again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from helpers.plans import look
from helpers.stack import running, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.stack import Answer, Stack

PREFIX = "OPSCONDUCTOR_MAX_"
HERE = {"target": "10.20.0.5", "segment": "local"}
ELSEWHERE = {"target": "10.20.0.6", "segment": "local"}


def run(stack: Stack, **step: Any) -> Answer:
    plan = stack.plan({"name": "small", "steps": [look("a", **step)]})
    return stack.opsctl("run", "-f", plan, "--yes", "--detach", "-o", "json")


@pytest.mark.parametrize(
    ("limit", "step", "why"),
    [
        ("OPEN_EXECUTIONS", {}, "1 executions of tenant default are open, 1 are allowed"),
        ("WAITING_STEPS", {}, "1 steps wait for tenant default, 1 are allowed"),
        ("SEGMENT_WAITING_STEPS", HERE, "1 steps wait for segment local, 1 are allowed"),
        ("AGENT_WAITING_STEPS", {}, "1 steps wait for agent local, 1 are allowed"),
        ("TARGET_WAITING_STEPS", HERE, "1 steps wait for target 10.20.0.5, 1 are allowed"),
    ],
)
def test_a_full_queue_is_named_and_nothing_is_stored(
    tmp_path: Path, limit: str, step: dict[str, Any], why: str
) -> None:
    with running(tmp_path, variables={f"{PREFIX}{limit}": "1"}) as stack:
        stack.embedded.agent.stop(10)
        wait_until(lambda: stack.agent_state("local") == "offline", "the agent is away")
        taken = run(stack, **step)
        assert taken.code == 0, taken.err
        refused = run(stack, **step)
        assert (refused.code, refused.stdout) == (4, b"")
        assert why in refused.err
        assert "nothing of it was stored [QUEUE_FULL]" in refused.err
        found = re.search(r"try again in ([\d.]+) s", refused.err)
        assert found
        assert 1 <= float(found[1]) <= 60
        assert len(stack.json("runs", "list")) == 1
        if limit == "TARGET_WAITING_STEPS":
            assert run(stack, **ELSEWHERE).code == 0, "another target's queue has room"
        stack.start_agent()
        first = taken.json["execution_id"]
        stack.opsctl("runs", "cancel", first)
        stack.wait_for(first)
        wait_until(lambda: run(stack, **step).code == 0, "there is room again")


def test_a_limit_that_is_no_number_keeps_the_server_from_starting(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=f"{PREFIX}TARGET_WAITING_STEPS is 'many'"):
        with running(tmp_path, variables={f"{PREFIX}TARGET_WAITING_STEPS": "many"}):
            pass
