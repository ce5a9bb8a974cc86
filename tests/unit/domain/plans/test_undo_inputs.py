"""A tool's own undo of a call that leaves an optional input out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan

Build = Callable[..., CompiledPlan]
IDS = ["i-0123456789abcdef0"]


@pytest.mark.parametrize(
    ("given", "undone"),
    [
        ({"instance_ids": IDS}, {"instance_ids": IDS}),
        (
            {"instance_ids": IDS, "region": "eu-central-1"},
            {"instance_ids": IDS, "region": "eu-central-1"},
        ),
    ],
)
def test_what_the_call_left_out_the_undo_leaves_out_too(
    build: Build, given: dict[str, Any], undone: dict[str, Any]
) -> None:
    step = build({"id": "a", "tool": "aws_ec2_stop_instances", "inputs": given}).step("a")
    assert step.body["undo"]["strategy"] == "call"
    assert step.body["undo"]["call"]["inputs"] == undone
