"""Shows what a plan would do and what an approval would cover, before anything runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from opsconductor.cli import formats
from opsconductor.cli.escape import escape_name
from opsconductor.cli.plain import plain, word
from opsconductor.cli.terminal import style_of
from opsconductor.v1 import plan_service_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opsconductor.cli.terminal import Terminal
    from opsconductor.v1.approval_service_pb2 import ApprovalRequest, GetApprovalResponse
    from opsconductor.v1.plan_service_pb2 import PreviewResponse, Risk, StepPreview

_LONGEST_INPUT = 400
_SHORT_LINE = 60
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


def show_preview(terminal: Terminal, preview: PreviewResponse, *, full: bool = False) -> None:
    """Writes a whole preview: the plan's risk, level and time, then every step.

    Commands of several lines are shown whole only with ``full``; the call and its digest always.
    """
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
    show_steps(terminal, preview.steps, full=full)
    if preview.rollback:
        terminal.say("\nafter the steps' own undos")
        for line in preview.rollback:
            terminal.say(f"  {_shortened(line, full=full)}")
    for warning in preview.warnings:
        terminal.note(f"warning: {fault_text(warning)}", style="yellow")
    if preview.unroutable_steps:
        names = ", ".join(escape_name(name) for name in preview.unroutable_steps)
        terminal.note(f"no agent can run: {names}", style="red")


def show_approval(terminal: Terminal, answer: GetApprovalResponse, *, full: bool = False) -> None:
    """Writes an approval request with every step as it would run."""
    approval = answer.approval
    show_request(terminal, approval)
    bodies = [json.loads(body) for body in answer.step_bodies]
    signed = {body.get("step_id", ""): body.get("inputs", {}) for body in bodies}
    show_steps(terminal, answer.steps, signed, full=full)


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
    signed: Mapping[str, dict[str, Any]] | None = None,
    *,
    full: bool = False,
) -> None:
    """Writes steps: the call, where it runs, the risk with its reasons, how it is undone.

    Args:
        terminal: Where to.
        steps: The steps as the orchestrator describes them.
        signed: The inputs that are really signed, by step id; without it the described ones.
        full: Whether commands of several lines are shown whole.
    """
    for step in steps:
        inputs = plain(step.inputs) if signed is None else signed.get(step.step_id, {})
        terminal.say(f"\n{escape_name(step.step_id)}", style="bold")
        pairs = [
            ("  call", call_text(step.tool, inputs, full=full)),
            ("  risk", _risk_text(step.risk)),
            ("  target", _target(step)),
            ("  command", _shortened(step.command, full=full)),
            ("  undo", "\n".join(_shortened(line, full=full) for line in step.undo) or "none"),
            ("  runs on", _route(step)),
            ("  after", ", ".join(escape_name(name) for name in step.needs)),
            ("  approval", step.approval),
            ("  estimate", formats.span(step.estimate) if step.HasField("estimate") else ""),
            ("  digest", step.digest),
        ]
        terminal.fields(pairs, {"  risk": style_of(risk_word(step.risk))})


def call_text(tool: str, inputs: Mapping[str, Any], *, full: bool = False) -> str:
    r"""Returns a call as a line such as ``write_file path=/etc/motd content="hello\n"``."""
    words = [f"{name}={_input(value, full=full)}" for name, value in sorted(inputs.items())]
    return " ".join([tool, *words])


def _input(value: Any, *, full: bool) -> str:
    simple = isinstance(value, str) and value.isprintable() and value and " " not in value
    text = value if simple else json.dumps(value, ensure_ascii=False)
    if full or len(text) <= _LONGEST_INPUT:
        return str(text)
    return f"{text[:_LONGEST_INPUT]}… ({len(text)} characters, --full shows all)"


def _shortened(command: str, *, full: bool) -> str:
    """Returns a command of one line as it is; of a script how long it is."""
    count = command.count("\n") + 1
    if full or count == 1:
        return command
    first = command.partition("\n")[0]
    head = first if len(first) <= _SHORT_LINE else f"{first[:_SHORT_LINE]}…"
    return f"{head} … ({count} lines, --full shows them)"


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
