"""Shows what a plan would do and what an approval would cover, before anything runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from opsconductor.cli import formats
from opsconductor.cli.escape import escape_name
from opsconductor.cli.plain import word
from opsconductor.cli.terminal import style_of
from opsconductor.v1 import plan_service_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsconductor.cli.terminal import Terminal
    from opsconductor.v1.approval_service_pb2 import ApprovalRequest, GetApprovalResponse
    from opsconductor.v1.plan_service_pb2 import PreviewResponse, Risk, StepPreview

_LEVELS = ("runs at once", "confirmation", "plan review", "step by step")


def risk_word(risk: Risk) -> str:
    """Returns the severity of a risk: low, medium, high or critical."""
    return word(plan_service_pb2.RiskLevel.DESCRIPTOR, risk.level)


def risk_class(risk: Risk) -> str:
    """Returns the class of a risk: read_only, modify or destructive."""
    return word(plan_service_pb2.RiskClass.DESCRIPTOR, risk.risk_class)


def level_text(level: int) -> str:
    """Returns an approval level with its meaning."""
    return f"{level} ({_LEVELS[level]})" if 0 <= level < len(_LEVELS) else str(level)


def show_preview(terminal: Terminal, preview: PreviewResponse) -> None:
    """Writes a whole preview: the plan's risk, level and time, then every step."""
    terminal.fields(
        [
            ("plan", f"{preview.name} ({preview.plan_id})" if preview.name else preview.plan_id),
            ("digest", preview.plan_digest),
            ("risk", _risk_text(preview.risk)),
            ("approval level", level_text(preview.approval_level)),
            ("why", "\n".join(preview.approval_reasons)),
            ("policy", preview.policy),
            ("run", preview.run),
            ("estimate", _estimate(preview)),
        ]
    )
    show_steps(terminal, preview.steps)
    if preview.rollback:
        terminal.say("\nafter the steps' own undos")
        for line in preview.rollback:
            terminal.say(f"  {line}")
    for warning in preview.warnings:
        terminal.note(f"warning: {fault_text(warning)}", style="yellow")
    if preview.unroutable_steps:
        names = ", ".join(escape_name(name) for name in preview.unroutable_steps)
        terminal.note(f"no agent can run: {names}", style="red")


def show_approval(terminal: Terminal, answer: GetApprovalResponse) -> None:
    """Writes an approval request with every step as it would run."""
    approval = answer.approval
    show_request(terminal, approval)
    bodies = [json.loads(body) for body in answer.step_bodies]
    show_steps(terminal, answer.steps, {body.get("step_id", ""): body for body in bodies})


def show_request(terminal: Terminal, approval: ApprovalRequest) -> None:
    """Writes what an approval request is about."""
    terminal.fields(
        [
            ("approval", approval.approval_id),
            ("execution", approval.execution_id),
            ("plan", approval.plan_name),
            ("revision", str(approval.revision) if approval.revision > 1 else ""),
            ("asked by", escape_name(approval.requester)),
            ("level", level_text(approval.level)),
            ("covers", ", ".join(escape_name(step) for step in approval.step_ids)),
            ("why", "\n".join(approval.reasons)),
            ("needs", approval.requirement),
            ("digest", approval.plan_digest),
            ("expires", formats.moment(approval.expire_time)),
        ]
    )


def show_steps(
    terminal: Terminal,
    steps: Sequence[StepPreview],
    bodies: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Writes steps: where they run, the command, the risk with its reasons, how they are undone.

    Args:
        terminal: Where to.
        steps: The steps as the orchestrator describes them.
        bodies: What is really signed, by step id; its inputs are shown beside the description.
    """
    for step in steps:
        terminal.say(f"\n{escape_name(step.step_id)}", style="bold")
        body = (bodies or {}).get(step.step_id)
        pairs = [
            ("  risk", _risk_text(step.risk)),
            ("  tool", step.tool),
            ("  target", _target(step)),
            ("  inputs", json.dumps(body["inputs"]) if body and body.get("inputs") else ""),
            ("  command", step.command),
            ("  undo", "\n".join(step.undo) or "none"),
            ("  runs on", _route(step)),
            ("  after", ", ".join(escape_name(name) for name in step.needs)),
            ("  approval", step.approval),
            ("  estimate", formats.span(step.estimate) if step.HasField("estimate") else ""),
            ("  digest", step.digest),
        ]
        terminal.fields(pairs, {"  risk": style_of(risk_word(step.risk))})


def fault_text(fault: plan_service_pb2.Fault) -> str:
    """Returns a fault of an answer as one line."""
    from opsconductor.rpc.errors import Fault

    names = ("code", "field", "found", "expected", "hint", "step", "line")
    return str(Fault(**{name: getattr(fault, name) for name in names}))


def _risk_text(risk: Risk) -> str:
    reasons = "; ".join(risk.reasons)
    text = f"{risk_word(risk)} ({risk_class(risk)})"
    return f"{text}: {reasons}" if reasons else text


def _estimate(preview: PreviewResponse) -> str:
    return formats.span(preview.estimate) if preview.HasField("estimate") else "unknown"


def _target(step: StepPreview) -> str:
    target, address = escape_name(step.target), escape_name(step.address)
    if not target:
        return "the agent's own host"
    return f"{target} ({address})" if address and address != target else target


def _route(step: StepPreview) -> str:
    agent = escape_name(step.agent_id) or "no agent"
    where = f"{agent}, segment {escape_name(step.segment)}" if step.segment else agent
    return f"{where}: {step.routing_reason}" if step.routing_reason else where
