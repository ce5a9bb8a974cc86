"""What tools declare to look at when an outcome is unknown: it fits every call, and only reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from opsconductor.orchestrator.domain.plans.check import check_plan
from opsconductor.orchestrator.domain.plans.compile import compile_plan
from opsconductor.orchestrator.domain.plans.policy import EMBEDDED_POLICY
from opsconductor.orchestrator.domain.plans.probe import moved, probe_plan
from opsconductor.tool_registry.inputs import check_inputs
from opsconductor.tool_registry.lint.tool import lint_tool
from opsconductor.tool_registry.model import Probe
from opsconductor.tool_registry.registry import Registry

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.plans.compiled import CompiledStep
    from opsconductor.tool_registry.model import Example, Tool

REGISTRY = Registry.load()
PROBED = [tool for tool in REGISTRY.tools if tool.probe is not None]
CALLS = [
    pytest.param(tool, example, id=f"{tool.name}-{example.name}")
    for tool in PROBED
    for example in tool.examples
    if example.section == "command"
]


def probed(tool: Tool, inputs: dict[str, Any], **more: Any) -> CompiledStep:
    """Returns the one step of the probe of a call."""
    assert tool.probe is not None
    here = {"target": None, "segment": "dmz", "agent_labels": {"site": "x"}, "method": tool.method}
    body = {**here, **more}
    reader = REGISTRY.get(tool.probe.tool)
    document = probe_plan(tool.probe, tool, reader, body, inputs, "edge-1")
    assets = {body["target"]["name"]: body["target"]} if body["target"] else {}
    checked = check_plan(document, None, REGISTRY, assets, frozenset({"dmz"}))
    assert checked.faults == ()
    assert checked.plan is not None
    (step,) = compile_plan(checked.plan, REGISTRY, assets, EMBEDDED_POLICY, "acme").steps
    return step


def target_of(tool: Tool, example: Example) -> dict[str, Any] | None:
    if not tool.requires_target and not example.target:
        return None
    facts = {"name": "it", "address": "10.0.0.5", "connection": "ssh", "segment": "dmz"}
    return {**facts, **(example.target or {}), "segment": "dmz"}


@pytest.mark.parametrize(("tool", "example"), CALLS)
def test_the_probe_of_every_example_is_a_plan_that_only_reads(tool: Tool, example: Example) -> None:
    inputs, faults = check_inputs(tool, example.inputs)
    assert faults == []
    step = probed(tool, dict(inputs), target=target_of(tool, example))
    assert step.risk.risk_class == "read_only"
    assert step.body["segment"] == "dmz"


def test_most_of_what_cannot_be_done_twice_has_a_probe() -> None:
    assert len(PROBED) > 90
    twice = [tool for tool in REGISTRY.tools if not tool.annotations.idempotent]
    changes = [tool for tool in twice if not tool.annotations.read_only]
    assert len([tool for tool in changes if tool.probe]) / len(changes) > 0.5


def test_inputs_are_data_to_the_probe() -> None:
    step = probed(REGISTRY.get("delete_file"), {"path": "/tmp/${{ inputs.path }}"})
    assert step.body["inputs"]["path"] == "/tmp/${{ inputs.path }}"


def test_an_optional_input_that_was_not_given_is_not_asked_for() -> None:
    step = probed(REGISTRY.get("kubectl_cordon"), {"name": "node-1"})
    assert step.body["inputs"]["name"] == "node-1"
    assert "context" not in step.body["inputs"]


@pytest.mark.parametrize(
    ("tool", "inputs", "connection", "pinned"),
    [
        ("delete_file", {"path": "/tmp/x"}, "", True),
        ("delete_file", {"path": "/tmp/x"}, "local", True),
        ("delete_file", {"path": "/tmp/x"}, "ssh", False),
        ("kubectl_cordon", {"name": "node-1"}, "ssh", True),
        ("aws_ec2_stop_instances", {"instance_ids": ["i-0123456789abcdef0"]}, "", False),
        ("asset_delete", {"name": "web-01"}, "", False),
    ],
)
def test_what_ran_on_an_agents_own_host_is_looked_at_there(
    tool: str, inputs: dict[str, Any], connection: str, pinned: bool
) -> None:
    facts = {"name": "it", "address": "10.0.0.5", "segment": "dmz", "connection": connection}
    step = probed(REGISTRY.get(tool), inputs, target=facts if connection else None)
    assert step.body["agent_labels"] == ({"name": "edge-1"} if pinned else {"site": "x"})


def test_only_what_the_probe_asks_for_is_kept_of_the_inputs() -> None:
    tool = REGISTRY.get("write_file")
    assert tool.probe is not None
    body: dict[str, Any] = {"target": None, "segment": "", "agent_labels": {}}
    body["method"] = tool.method
    given = {"path": "/etc/motd", "content": "long" * 1000}
    document = probe_plan(tool.probe, tool, REGISTRY.get(tool.probe.tool), body, given, "edge-1")
    assert document["inputs"] == {"path": "/etc/motd"}


def test_another_target_of_the_same_name_is_told_from_the_one_before() -> None:
    before = {"address": "10.0.0.5", "port": 0, "connection": "ssh", "segment": "dmz"}
    assert moved(before, {**before, "tags": ["web"]}) == ""
    assert moved(before, {**before, "address": "10.9.9.9", "port": 22}) == (
        "address was 10.0.0.5 and is 10.9.9.9, port was none and is 22"
    )


@pytest.mark.parametrize(
    ("name", "probe", "said"),
    [
        (
            "restart_service",
            Probe("service_status", {"service": "${{ inputs.unit }}"}),
            "inputs.unit",
        ),
        ("restart_service", Probe("service_status", {"service": "${{ output.x }}"}), "output"),
        (
            "restart_service",
            Probe("service_status", {"service": "${{ inputs. }}"}),
            "inside ${{ }}",
        ),
        ("service_status", Probe("service_status", {}), "a probe of a read-only tool"),
    ],
)
def test_the_lint_refuses_a_probe_that_cannot_be_asked(name: str, probe: Probe, said: str) -> None:
    tool = replace(REGISTRY.get(name), probe=probe)
    (fault,) = lint_tool(tool)
    assert said in fault.found
    assert fault.field.startswith("probe")
