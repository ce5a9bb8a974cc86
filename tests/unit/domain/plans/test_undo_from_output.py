"""A tool's own undo that needs what the step puts out: approved as a path, limited by its type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from helpers.plans import FREE, Story, agent
from opsconductor.orchestrator.domain.plans.check import check_plan
from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan
from opsconductor.tool_registry.expressions import output_paths
from opsconductor.tool_registry.inputs import is_constrained
from opsconductor.tool_registry.registry import Registry

if TYPE_CHECKING:
    from opsconductor.tool_registry.model import Tool

Assets = dict[str, dict[str, Any]]
Build = Callable[..., CompiledPlan]

SNAPSHOT = {
    "id": "snap",
    "tool": "aws_ec2_create_snapshot",
    "inputs": {"volume_id": "vol-1", "region": "eu-central-1"},
}


def test_the_approved_body_holds_the_path_and_says_that_it_is_one(build: Build) -> None:
    step = build(SNAPSHOT).step("snap")
    call = step.body["undo"]["call"]
    assert call["inputs"] == {"region": "eu-central-1", "snapshot_id": "${{ output.SnapshotId }}"}
    assert call["late"] == ["snapshot_id"]
    assert step.body["late"] == []
    assert "\u2039output.SnapshotId\u203a" in step.undo_lines[0]
    # Whatever it will delete: the worst such a call can be counts, before anyone approves.
    assert call["risk"] == step.risk.risk_class == "destructive"


def test_text_of_a_caller_never_becomes_a_path(build: Build) -> None:
    step = {**SNAPSHOT, "inputs": {"volume_id": "vol-1", "description": "$${{ output.x }}"}}
    body = build(step).step("snap").body
    assert body["inputs"]["description"] == "${{ output.x }}"
    assert body["undo"]["call"]["late"] == ["snapshot_id"]


def test_other_undo_calls_have_no_such_mark(build: Build) -> None:
    step = {
        "id": "a",
        "tool": "aws_ec2_stop_instances",
        "inputs": {"instance_ids": ["i-0123456789abcdef0"]},
    }
    assert "late" not in build(step).step("a").body["undo"]["call"]


def test_every_shipped_undo_takes_limited_values_only(registry: Registry) -> None:
    found = [tool for tool in registry.tools if output_paths(tool.undo.inputs)]
    assert len(found) >= 4
    for tool in found:
        undoing = registry.get(tool.undo.tool)
        for name in output_paths(tool.undo.inputs):
            assert is_constrained(undoing.properties[name]), (tool.name, name)


def test_an_undo_that_would_take_any_text_is_refused(registry: Registry, assets: Assets) -> None:
    def freed(tool: Tool) -> Tool:
        if tool.name != "aws_ec2_delete_snapshot":
            return tool
        free = {"type": "string", "maxLength": 99}
        return replace(
            tool,
            parameters={**tool.parameters, "properties": {**tool.properties, "snapshot_id": free}},
        )

    changed = Registry([freed(tool) for tool in registry.tools])
    faults = check_plan({"steps": [SNAPSHOT]}, None, changed, assets).faults
    assert [fault.code for fault in faults] == ["LATE_BOUND_UNCONSTRAINED"]


@pytest.mark.parametrize("needs", [True, False])
def test_only_the_agent_that_saw_the_output_undoes_what_needs_it(build: Build, needs: bool) -> None:
    stop = {"tool": "aws_ec2_stop_instances", "inputs": {"instance_ids": ["i-0123456789abcdef0"]}}
    step = {**(SNAPSHOT if needs else stop), "id": "s"}
    fleet = [agent("a1", methods=frozenset({"aws-sdk"})), agent("a2", methods=frozenset())]
    story = Story(build(step, policy=FREE), fleet=fleet).decide("approve", "rita")
    story.start("s").complete("s")
    other = agent("a2", methods=frozenset({"aws-sdk"}))
    story.fleet = [other]
    story.rollback()
    assert story.granted("undo") == ([] if needs else ["s"])
    story.fleet = [agent("a1", methods=frozenset({"aws-sdk"})), other]
    story.wait(seconds=5)
    assert story.granted("undo") == ["s"]
    assert story.live("s").agent_id == ("a1" if needs else "a2")


def undone_by(inputs: dict[str, Any], tool: str = "aws_ec2_delete_snapshot") -> dict[str, Any]:
    return {**SNAPSHOT, "undo": {"tool": tool, "inputs": inputs}}


def test_an_author_may_name_the_output_in_an_undo_of_their_own(build: Build) -> None:
    inputs = {"snapshot_id": "${{output.SnapshotId}}", "region": "${{ inputs.region }}"}
    body = build(undone_by(inputs), inputs={"region": "eu-west-1"}).step("snap").body
    call = body["undo"]["call"]
    assert call["inputs"] == {"region": "eu-west-1", "snapshot_id": "${{ output.SnapshotId }}"}
    assert call["late"] == ["snapshot_id"]


@pytest.mark.parametrize(
    ("undo", "code"),
    [
        (undone_by({"snapshot_id": "a-${{ output.SnapshotId }}"}), "EXPRESSION"),
        (undone_by({"snapshot_id": "${{ output }}"}), "EXPRESSION"),
        (undone_by({"snapshot": "${{ output.SnapshotId }}"}), "UNKNOWN_KEY"),
        (undone_by({"snapshot_id": "${{ steps.snap.output.x }}"}), "LATE_BOUND_NOT_ALLOWED"),
        (
            undone_by({"script": "${{ output.SnapshotId }}"}, "run_script"),
            "LATE_BOUND_UNCONSTRAINED",
        ),
        (undone_by({"argv": ["${{ output.SnapshotId }}"]}, "run_command"), "EXPRESSION"),
    ],
)
def test_what_an_undo_may_not_take_from_the_output(
    registry: Registry, assets: Assets, undo: dict[str, Any], code: str
) -> None:
    assert code in [
        each.code for each in check_plan({"steps": [undo]}, None, registry, assets).faults
    ]


def test_an_undo_elsewhere_than_where_the_output_was_seen_is_refused(
    registry: Registry, assets: Assets
) -> None:
    step: dict[str, Any] = {
        "id": "s",
        "tool": "run_command",
        "target": "web-01",
        "inputs": {"argv": ["touch", "/srv/x"]},
        "undo": {
            "tool": "stop_service",
            "target": "db-01",
            "inputs": {"service": "${{ output.lines[0] }}"},
        },
    }
    faults = check_plan({"steps": [step]}, None, registry, assets).faults
    assert [each.code for each in faults] == ["UNDO_NOT_SUPPORTED"]
    here = {**step, "undo": {**step["undo"], "target": "web-01"}}
    assert check_plan({"steps": [here]}, None, registry, assets).faults == ()


@pytest.mark.parametrize("where", ["precheck", "verify"])
def test_a_check_beside_the_step_cannot_name_its_output(
    registry: Registry, assets: Assets, where: str
) -> None:
    call = {"tool": "check_disk_space", "inputs": {"path": "${{ output.x }}"}}
    faults = check_plan({"steps": [{**SNAPSHOT, where: call}]}, None, registry, assets).faults
    assert [each.code for each in faults] == ["REFERENCE"]


def test_a_fault_of_the_step_brings_none_of_its_undo(registry: Registry, assets: Assets) -> None:
    wrong = {**undone_by({"snapshot_id": "${{ output.SnapshotId }}"}), "inputs": {}}
    faults = check_plan({"steps": [wrong]}, None, registry, assets).faults
    assert [each.code for each in faults] == ["MISSING_INPUT"]
