"""Reads one step of a plan document, and the parts steps are made of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.plans.findings import shown
from opsconductor.orchestrator.domain.plans.plan import (
    BACKOFFS,
    MAX_ATTEMPTS,
    MAX_TIMEOUT,
    MIN_TIMEOUT,
    ON_CONFLICT,
    ApprovalAsk,
    Concurrency,
    GroupQuorum,
    Retry,
    Step,
    ToolCall,
    UndoAsk,
)

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.plans.section import Section

STEP_KEYS = (
    "id",
    "description",
    "tool",
    "target",
    "inputs",
    "needs",
    "if",
    "timeout",
    "retry",
    "concurrency",
    "approval",
    "precheck",
    "verify",
    "undo",
    "irreversible",
    "dry_run",
    "success",
    "segment",
    "agent",
)
STEP_UNSUPPORTED = ("for_each", "max_parallel", "batches", "max_failures", "capture")
CALL_KEYS = ("tool", "target", "inputs", "success")
EXPRESSION_LIMIT = 4096

_DELAY_BOUNDS = (timedelta(0), timedelta(hours=24))
_EXPIRY_BOUNDS = (timedelta(seconds=1), timedelta(days=90))
_RETRY_KEYS = ("max_attempts", "backoff", "delay", "base", "increment", "factor", "max", "jitter")


def parse_step(section: Section, known_id: str) -> Step:
    """Returns the step a section describes; wrong fields take their defaults."""
    section.refuse_unknown(STEP_KEYS, STEP_UNSUPPORTED)
    return Step(
        id=known_id,
        tool=_tool(section),
        description=section.text("description"),
        target=section.text("target", limit=253),
        inputs=section.mapping("inputs"),
        needs=section.texts("needs", "a list of step ids"),
        condition=section.text("if", limit=EXPRESSION_LIMIT),
        success=section.text("success", limit=EXPRESSION_LIMIT),
        timeout=section.duration("timeout", (MIN_TIMEOUT, MAX_TIMEOUT), code="TIMEOUT"),
        retry=_retry(section),
        concurrency=_concurrency(section),
        approval=_approval(section),
        precheck=parse_call(section.inside("precheck")),
        verify=parse_call(section.inside("verify")),
        undo=_undo(section),
        irreversible=section.boolean("irreversible", default=False),
        dry_run=section.boolean("dry_run", default=False),
        segment=section.identifier("segment"),
        agent_labels=agent_labels(section),
        path=section.path,
    )


def parse_call(inside: Section | None) -> ToolCall | None:
    """Returns the tool call a section describes; None for no section."""
    if inside is None:
        return None
    inside.refuse_unknown(CALL_KEYS)
    return ToolCall(
        tool=_tool(inside),
        inputs=inside.mapping("inputs"),
        target=inside.text("target", limit=253),
        success=inside.text("success", limit=EXPRESSION_LIMIT),
        path=inside.path,
    )


def agent_labels(section: Section) -> Mapping[str, str]:
    """Returns the labels an agent must carry, from ``agent: {labels: {...}}``."""
    inside = section.inside("agent")
    if inside is None:
        return {}
    inside.refuse_unknown(("labels",))
    return inside.labels("labels")


def _tool(section: Section) -> str:
    if "tool" not in section.data:
        section.fault("MISSING", "tool", expected="the name of a tool")
        return ""
    name = section.text("tool", limit=64)
    if not name and section.data["tool"] == "":
        section.fault("MISSING", "tool", found='""', expected="the name of a tool")
    return name


def _retry(section: Section) -> Retry | None:
    inside = section.inside("retry")
    if inside is None:
        return None
    inside.refuse_unknown((*_RETRY_KEYS, "on"))
    delay = inside.duration("delay", _DELAY_BOUNDS)
    base = inside.duration("base", _DELAY_BOUNDS)
    return Retry(
        max_attempts=inside.integer("max_attempts", 1, (1, MAX_ATTEMPTS), code="RETRY_NOT_ALLOWED"),
        backoff=inside.choice("backoff", BACKOFFS, "fixed" if delay else "exponential"),
        base=base or delay or timedelta(0),
        increment=inside.duration("increment", _DELAY_BOUNDS) or timedelta(0),
        factor=inside.number("factor", 2.0, (1.0, 100.0)),
        max=inside.duration("max", _DELAY_BOUNDS) or timedelta(0),
        jitter=inside.boolean("jitter", default=True),
        on=inside.texts("on", "a list of error classes or patterns", limit=200),
    )


def _concurrency(section: Section) -> Concurrency | None:
    inside = section.inside("concurrency")
    if inside is None:
        return None
    inside.refuse_unknown(("key", "max_runs", "on_conflict"))
    key = inside.text("key", limit=200)
    if not key:
        inside.fault("MISSING", "key", expected="the name of the lock")
    return Concurrency(
        key=key,
        max_runs=inside.integer("max_runs", 1, (1, 1000)),
        on_conflict=inside.choice("on_conflict", ON_CONFLICT, "queue"),
    )


def _approval(section: Section) -> ApprovalAsk | None:
    inside = section.inside("approval")
    if inside is None:
        return None
    inside.refuse_unknown(("all_of", "any_of", "expires"))
    return ApprovalAsk(
        all_of=_groups(inside, "all_of"),
        any_of=_groups(inside, "any_of"),
        expires=inside.duration("expires", _EXPIRY_BOUNDS),
    )


def _groups(section: Section, key: str) -> tuple[GroupQuorum, ...]:
    found = []
    for index, value in enumerate(section.items(key, "a list of {group, approve}")):
        inside = section.enter(f"{key}[{index}]", value)
        if inside is None:
            continue
        inside.refuse_unknown(("group", "approve"))
        group = inside.identifier("group", required=True)
        found.append(GroupQuorum(group, max(1, inside.integer("approve", 1, (1, 100)))))
    return tuple(found)


def _undo(section: Section) -> UndoAsk | None:
    if "undo" not in section.data:
        return None
    value = section.data["undo"]
    if value in ("none", "state"):
        return UndoAsk(strategy=value)
    expected = 'none | state | {manual: "text"} | {tool: NAME, inputs: {...}}'
    if not isinstance(value, Mapping):
        section.fault("TYPE", "undo", found=shown(value), expected=expected)
        return None
    inside = section.enter("undo", value)
    if inside is not None and "manual" in value:
        inside.refuse_unknown(("manual",))
        return UndoAsk(strategy="manual", manual=inside.text("manual", limit=10_000))
    call = parse_call(inside)
    return UndoAsk(strategy="call", call=call) if call else None
