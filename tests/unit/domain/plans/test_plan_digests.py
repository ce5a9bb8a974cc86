"""Digests: what decides what runs is part of them, and nothing else is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.plan_steps import command, disk
from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan
from opsconductor.rpc.errors import PlanTooLarge

Assets = dict[str, dict[str, Any]]
Build = Callable[..., CompiledPlan]


def test_step_too_large_for_an_agent_is_refused(build: Build) -> None:
    with pytest.raises(PlanTooLarge):
        build(command(*["echo", *["x" * 32000] * 10]))


BASE = {
    "name": "n",
    "context": {"prompt": "p", "environment": "staging"},
    "steps": [
        {
            "id": "a",
            "description": "d",
            "tool": "write_file",
            "target": "web-01",
            "inputs": {"path": "/srv/a", "content": "x"},
            "undo": {"tool": "ping", "inputs": {"host": "h"}},
            "verify": {"tool": "ping", "inputs": {"host": "h"}},
        }
    ],
}

TEXT_ONLY = [
    lambda plan: plan.update(name="another"),
    lambda plan: plan["context"].update(prompt="another"),
    lambda plan: plan["steps"][0].update(description="another"),
    lambda plan: plan.update(priority=1),
]

DECISIVE = {
    "content": lambda plan: plan["steps"][0]["inputs"].update(content="y"),
    "target": lambda plan: plan["steps"][0].update(target="db-01"),
    "id": lambda plan: plan["steps"][0].update(id="b"),
    "condition": lambda plan: plan["steps"][0].update({"if": "inputs == inputs"}),
    "timeout": lambda plan: plan["steps"][0].update(timeout="3s"),
    "retry": lambda plan: plan["steps"][0].update(retry={"max_attempts": 2}),
    "undo": lambda plan: plan["steps"][0]["undo"]["inputs"].update(host="i"),
    "verify": lambda plan: plan["steps"][0]["verify"].update(success="exit_code == 0"),
    "irreversible": lambda plan: plan["steps"][0].update(irreversible=True),
    "environment": lambda plan: plan["context"].update(environment="production"),
    "on_failure": lambda plan: plan.update(on_failure="rollback"),
    "plan timeout": lambda plan: plan.update(timeout="1h"),
    "rollback": lambda plan: plan.update(rollback=[{"tool": "ping", "inputs": {"host": "h"}}]),
    "approval": lambda plan: plan["steps"][0].update(approval={}),
    "concurrency": lambda plan: plan["steps"][0].update(concurrency={"key": "k"}),
}


def digest(build: Build, *changes: Any) -> str:
    plan = copy.deepcopy(BASE)
    for change in changes:
        change(plan)
    return build(*plan.pop("steps"), **plan).plan_digest


@pytest.mark.parametrize("what", DECISIVE)
def test_digest_changes_with_everything_that_decides_what_runs(build: Build, what: Any) -> None:
    assert digest(build, DECISIVE[what]) != digest(build)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from(TEXT_ONLY)), st.sampled_from(sorted(DECISIVE)))
def test_texts_for_people_are_not_part_of_the_digest(build: Build, texts: Any, what: Any) -> None:
    assert digest(build, *texts) == digest(build)
    assert digest(build, *texts, DECISIVE[what]) == digest(build, DECISIVE[what])


def test_moved_asset_changes_the_digest(build: Build, assets: Assets) -> None:
    moved = {**assets, "web-01": {**assets["web-01"], "address": "10.0.0.6"}}
    assert build(disk(), assets=moved).plan_digest != build(disk()).plan_digest
