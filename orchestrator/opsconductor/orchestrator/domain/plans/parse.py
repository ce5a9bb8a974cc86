"""Reads a plan document into a Plan and tells every mistake of shape at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opsconductor.orchestrator.domain.plans.document_limits import check_limits
from opsconductor.orchestrator.domain.plans.findings import Findings, shown
from opsconductor.orchestrator.domain.plans.parse_step import agent_labels, parse_call, parse_step
from opsconductor.orchestrator.domain.plans.plan import (
    DOCUMENT_VERSION,
    MAX_STEPS,
    MAX_TIMEOUT,
    MIN_TIMEOUT,
    MODES,
    ON_FAILURE,
    RUN_MODES,
    Plan,
    Step,
    ToolCall,
)
from opsconductor.orchestrator.domain.plans.section import Section

PLAN_KEYS = (
    "version",
    "name",
    "plan_id",
    "mode",
    "on_failure",
    "run",
    "priority",
    "risk",
    "rollback",
    "timeout",
    "dry_run",
    "context",
    "inputs",
    "steps",
    "segment",
    "agent",
)
PLAN_UNSUPPORTED = ("for_each", "max_parallel", "batches", "max_failures")

_RISK_WORDS = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "critical": "critical",
    "read": "low",
    "read_only": "low",
    "modify": "medium",
    "destructive": "high",
}


def read_plan(document: object, findings: Findings) -> Plan | None:
    """Returns the plan as far as it can be read, and records every mistake of shape.

    Wrong fields take their defaults, so that one mistake hides no other. None: nothing is usable.
    """
    if not isinstance(document, Mapping):
        findings.fault("TYPE", "plan", found=shown(document), expected="a mapping with steps")
        return None
    if not check_limits(document, findings):
        return None
    section = Section(document, "", "", findings)
    section.refuse_unknown(PLAN_KEYS, PLAN_UNSUPPORTED)
    section.choice("version", (DOCUMENT_VERSION,), DOCUMENT_VERSION)
    steps = _steps(section)
    if steps is None:
        return None
    dry_run, rollback = section.boolean("dry_run", default=False), _rollback(section)
    return Plan(
        steps=steps,
        name=section.text("name", limit=200),
        plan_id=_plan_id(section),
        mode=_mode(section, steps),
        on_failure=section.choice("on_failure", ON_FAILURE, "stop"),
        run=section.choice("run", RUN_MODES, "auto"),
        priority=section.integer("priority", 3, (1, 5)),
        risk=_risk(section),
        rollback=() if dry_run else rollback,
        timeout=section.duration("timeout", (MIN_TIMEOUT, MAX_TIMEOUT), code="TIMEOUT"),
        context=_context(section),
        inputs=section.mapping("inputs"),
        segment=section.identifier("segment"),
        agent_labels=agent_labels(section),
        dry_run=dry_run,
    )


def _steps(section: Section) -> tuple[Step, ...] | None:
    items = section.items("steps", "a list of steps")
    if "steps" not in section.data or section.data["steps"] == []:
        section.fault("EMPTY_PLAN", "steps", expected="at least one step")
        return None
    if len(items) > MAX_STEPS:
        section.fault(
            "PLAN_TOO_LARGE", "steps", found=f"{len(items)} steps", expected=f"<= {MAX_STEPS} steps"
        )
        return None
    seen: dict[str, int] = {}
    steps = (_step(section, index, item, seen) for index, item in enumerate(items))
    return tuple(step for step in steps if step is not None)


def _step(section: Section, index: int, item: Any, seen: dict[str, int]) -> Step | None:
    path = f"steps[{index}]"
    if not isinstance(item, Mapping):
        section.fault("TYPE", path, found=shown(item), expected="a step: {id, tool, ...}")
        return None
    step_id = Section(item, path, "", section.findings).identifier("id", required=True)
    if step_id in seen and step_id:
        section.findings.fault(
            "DUPLICATE_STEP",
            f"{path}.id",
            step=step_id,
            found=step_id,
            expected="an id no other step has",
            hint=f"steps[{seen[step_id]}] has it too",
        )
    seen.setdefault(step_id, index)
    return parse_step(Section(item, path, step_id, section.findings), step_id)


def _mode(section: Section, steps: tuple[Step, ...]) -> str:
    """Returns the mode; needs without a mode make a graph, needs in another mode are a fault."""
    given = section.choice("mode", MODES, "")
    needing = [step for step in steps if step.needs]
    if not given:
        return "graph" if needing else "sequential"
    if given != "graph":
        for step in needing:
            section.findings.fault(
                "NEEDS_WITHOUT_GRAPH",
                f"{step.path}.needs",
                step=step.id,
                found=f"needs in mode {given}",
                expected="mode: graph",
                hint="needs take effect in mode graph only; set mode: graph or remove needs",
            )
    return "graph" if needing else given


def _plan_id(section: Section) -> str:
    value = section.text("plan_id", limit=128)
    if value and (not value.isprintable() or not value.isascii() or " " in value):
        section.fault(
            "BAD_ID", "plan_id", found=shown(value), expected="printable ASCII without spaces"
        )
    return value


def _risk(section: Section) -> str:
    if section.data.get("risk") in (None, "") and "risk" not in section.data:
        return ""
    word = section.choice("risk", tuple(_RISK_WORDS), "")
    return _RISK_WORDS.get(word, "")


def _context(section: Section) -> Mapping[str, Any]:
    context = section.mapping("context")
    environment = context.get("environment", "")
    if not isinstance(environment, str) or len(environment) > 64:
        section.fault(
            "TYPE", "context.environment", found=shown(environment), expected="text, <= 64"
        )
    return context


def _rollback(section: Section) -> tuple[ToolCall, ...]:
    items = section.items("rollback", "a list of {tool, inputs, target}")
    if len(items) > MAX_STEPS:
        section.fault(
            "PLAN_TOO_LARGE", "rollback", found=f"{len(items)} calls", expected=f"<= {MAX_STEPS}"
        )
        return ()
    calls = (
        parse_call(section.enter(f"rollback[{index}]", item)) for index, item in enumerate(items)
    )
    return tuple(call for call in calls if call is not None)
