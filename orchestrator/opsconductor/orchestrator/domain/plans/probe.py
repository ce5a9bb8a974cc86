"""The plan that reads what became of a step whose outcome is unknown, as its tool declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.plan import NAME_LABEL
from opsconductor.orchestrator.domain.plans.references import is_left_out
from opsconductor.tool_registry import expressions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.tool_registry.model import Probe, Tool

STEP_ID = "probe"
_PLACE = ("address", "port", "connection", "segment")


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
        agent_name: Who carried it out; asked again where the step ran on an agent's own host.
    """
    wanted = {
        name: value for name, value in probe.inputs.items() if not is_left_out(value, tool, inputs)
    }
    named = {path[0] for root, path in expressions.references(wanted) if root == "inputs"}
    step: dict[str, Any] = {"id": STEP_ID, "tool": reader.name, "inputs": wanted}
    if body["target"] and (reader.requires_target or reader.target_type != "none"):
        step["target"] = body["target"]["name"]
    if body["segment"]:
        step["segment"] = body["segment"]
    if ran_on_agent_host(body):
        step["agent"] = {"labels": {NAME_LABEL: agent_name}}
    elif body["agent_labels"]:
        step["agent"] = {"labels": dict(body["agent_labels"])}
    given = {name: value for name, value in inputs.items() if name in named}
    return {"run": "immediate", "inputs": given, "steps": [step]}


def ran_on_agent_host(body: Mapping[str, Any]) -> bool:
    """Tells whether a step ran on the host of its agent, so that another's tells nothing of it."""
    target = body["target"]
    here = target is None or target["connection"] == "local"
    return body["method"] == "local-command" or (body["method"] == "command" and here)


def moved(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Returns in what a target differs from what it was, in words; empty where it is the same."""
    return ", ".join(
        f"{key} was {before[key] or 'none'} and is {now[key] or 'none'}"
        for key in _PLACE
        if before[key] != now[key]
    )
