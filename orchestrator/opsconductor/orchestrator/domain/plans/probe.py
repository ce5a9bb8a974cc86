"""The plan that reads what became of a step whose outcome is unknown, as its tool declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.plan import NAME_LABEL
from opsconductor.orchestrator.domain.plans.references import is_left_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.tool_registry.model import Probe, Tool

STEP_ID = "probe"


def probe_plan(
    probe: Probe,
    tool: Tool,
    reader: Tool,
    body: Mapping[str, Any],
    inputs: Mapping[str, Any],
    agent_name: str,
) -> dict[str, Any]:
    """Returns the document of a plan of one step that only reads.

    Args:
        probe: What the tool of the step declares.
        tool: The tool of the step.
        reader: The tool the probe names.
        body: The body of the step that is asked about.
        inputs: Its inputs, late ones resolved. They are the plan's, so they stay data.
        agent_name: Who carried it out; asked again where the answer depends on that.
    """
    target = body["target"] or {}
    step: dict[str, Any] = {
        "id": STEP_ID,
        "tool": reader.name,
        "inputs": {
            name: value
            for name, value in probe.inputs.items()
            if not is_left_out(value, tool, inputs)
        },
    }
    if target and (reader.requires_target or reader.target_type != "none"):
        step["target"] = target["name"]
    if body["segment"]:
        step["segment"] = body["segment"]
    if agent_name and _on_agent_host(body):
        step["agent"] = {"labels": {NAME_LABEL: agent_name}}
    elif body["agent_labels"]:
        step["agent"] = {"labels": dict(body["agent_labels"])}
    return {"run": "immediate", "inputs": dict(inputs), "steps": [step]}


def _on_agent_host(body: Mapping[str, Any]) -> bool:
    target = body["target"]
    return target is None or target["connection"] == "local"
