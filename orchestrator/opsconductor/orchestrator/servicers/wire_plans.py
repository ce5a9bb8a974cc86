"""Plans on the wire: messages to documents, compiled plans to previews."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import duration_pb2

from opsconductor.orchestrator.domain.executions.place import demand_of, place_preview
from opsconductor.orchestrator.servicers import wire
from opsconductor.rpc.errors import InvalidArgument
from opsconductor.v1 import plan_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

    from opsconductor.orchestrator.domain.executions.place import AgentView
    from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan, CompiledStep

_STRUCTS = ("inputs", "context")


def source(message: pb.PlanSource) -> bytes | dict[str, Any]:
    """Returns a plan's text, or the document its message stands for. Raises InvalidArgument."""
    kind = message.WhichOneof("source")
    if kind == "document":
        return message.document
    if kind == "plan":
        return plan_document(message.plan)
    raise InvalidArgument("plan is missing: give a plan message or a document")


def plan_document(plan: pb.Plan) -> dict[str, Any]:
    """Returns the plan document that a Plan message stands for; unset fields are left out."""
    document = _set_fields(plan)
    document["steps"] = [_step(step) for step in plan.steps]
    if plan.rollback:
        document["rollback"] = [_call(call) for call in plan.rollback]
    return document


def _step(step: pb.Step) -> dict[str, Any]:
    document = _set_fields(step)
    if "condition" in document:
        document["if"] = document.pop("condition")
    if labels := document.pop("agent_labels", None):
        document["agent"] = {"labels": labels}
    for name in ("precheck", "verify"):
        if step.HasField(name):
            document[name] = _call(getattr(step, name))
    if step.HasField("undo"):
        document["undo"] = _undo(step.undo)
    if step.HasField("retry"):
        document["retry"] = _retry(step.retry)
    if step.HasField("concurrency"):
        document["concurrency"] = _set_fields(step.concurrency)
    if step.HasField("approval"):
        document["approval"] = _approval(step.approval)
    return document


def _set_fields(message: Message) -> dict[str, Any]:
    """Returns the set scalar, list-of-scalar, map, Struct and Duration fields of a message."""
    document: dict[str, Any] = {}
    for field, item in message.ListFields():
        if field.name in _STRUCTS:
            document[field.name] = wire.plain(item)
        elif isinstance(item, duration_pb2.Duration):
            document[field.name] = _duration(item)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            document[field.name] = dict(item)
        elif field.message_type is None:
            document[field.name] = item if isinstance(item, str | int | float) else list(item)
    return document


def _duration(item: duration_pb2.Duration) -> str:
    milliseconds = item.ToMilliseconds()
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _call(call: pb.ToolCall) -> dict[str, Any]:
    return _set_fields(call)


def _undo(undo: pb.Undo) -> Any:
    kind = undo.WhichOneof("strategy")
    if kind == "call":
        return _call(undo.call)
    if kind == "manual":
        return {"manual": undo.manual}
    return kind


def _retry(retry: pb.Retry) -> dict[str, Any]:
    document = _set_fields(retry)
    if document.pop("no_jitter", False):
        document["jitter"] = False
    if document.get("backoff") == "fixed" and "base" in document:
        document["delay"] = document.pop("base")
    return document


def _approval(approval: pb.Approval) -> dict[str, Any]:
    document = _set_fields(approval)
    for name in ("all_of", "any_of"):
        if groups := getattr(approval, name):
            document[name] = [_set_fields(group) for group in groups]
    return document


def step_preview(step: CompiledStep, fleet: Sequence[AgentView]) -> pb.StepPreview:
    """Returns a step as it would run now."""
    body = step.body
    agent_id, reason = place_preview(demand_of(body), fleet)
    return pb.StepPreview(
        step_id=step.step_id,
        tool=step.tool,
        tool_digest=f"{body['tool_version']} {body['tool_digest']}",
        target=step.target_name,
        address=step.address,
        command=step.command,
        undo=list(step.undo_lines),
        risk=wire.risk(step.risk),
        digest=step.digest,
        location=body["location"],
        segment=body["segment"],
        agent_id=agent_id,
        routing_reason=reason,
        estimate=wire.duration(step.estimate),
        needs=list(step.needs),
        approval=step.approval,
        inputs=wire.struct(body["inputs"]),
    )


def preview(compiled: CompiledPlan, fleet: Sequence[AgentView]) -> pb.PreviewResponse:
    """Returns a compiled plan as people and programs judge it."""
    steps = [step_preview(step, fleet) for step in compiled.steps]
    policy = compiled.policy
    return pb.PreviewResponse(
        plan_id=compiled.plan_id,
        name=compiled.name,
        steps=steps,
        rollback=[step.command for step in compiled.rollback],
        risk=wire.risk(compiled.risk),
        approval_level=compiled.level.level,
        approval_reasons=list(compiled.level.reasons),
        run=compiled.run,
        estimate=wire.duration(compiled.estimate),
        plan_digest=compiled.plan_digest,
        unroutable_steps=[step.step_id for step in steps if not step.agent_id],
        policy=f"{policy['name']} {policy['version']}",
    )
