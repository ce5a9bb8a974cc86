"""Decides from bytes alone whether an order may be carried out here.

The orchestrator is not trusted: what runs is what stands in the step body, the body's digest stands
in the manifest, the manifest's digest stands in statements that people signed, and everything about
tools and risk comes from this agent's own registry.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from opsconductor.agent import undo_values
from opsconductor.agent.approvals import Approvals
from opsconductor.agent.refusal import Refusal
from opsconductor.rpc import canonical, ids
from opsconductor.tool_registry import inputs as tool_inputs
from opsconductor.tool_registry.risk.assess import assess
from opsconductor.tool_registry.risk.dry_runs import assess_dry_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from opsconductor.agent.journal import Entry
    from opsconductor.agent.order import Order
    from opsconductor.agent.policy import Policy
    from opsconductor.agent.report import Report
    from opsconductor.rpc.allowed_signers import AllowedSigners
    from opsconductor.tool_registry.model import Tool
    from opsconductor.tool_registry.registry import Registry

MAX_LATE_BYTES = 256 * 1024
MAX_TIMEOUT_MS = 24 * 3600 * 1000
MAX_UNDO_STARTS = 20
"""An undo that failed may be tried again, but nobody signs each try."""

_RISKS = ("read_only", "modify", "destructive")
_BODY_KEYS = frozenset(
    (
        *("v", "step_id", "tool", "tool_version", "tool_digest", "location", "method", "target"),
        *("segment", "agent_labels", "inputs", "late", "risk", "critical", "idempotent"),
        *("irreversible", "needs", "if", "timeout_ms", "retry", "success", "precheck", "verify"),
        *("undo", "approval", "concurrency"),
    )
)
_OPTIONAL_KEYS = frozenset({"dry_run"})


@dataclass(frozen=True, slots=True)
class Trust:
    """What the agent believes by itself."""

    registry: Registry
    policy: Policy
    signers: Callable[[], AllowedSigners]
    """Reads the file at each use, so that a key removed from it counts no more."""
    tenant: str = ""
    """From the agent's certificate; empty only before enrolment."""
    segment: str = ""


@dataclass(frozen=True, slots=True)
class VerifiedCall:
    """One call of a tool whose definition is this agent's own."""

    tool: Tool
    inputs: Mapping[str, Any]
    target: Mapping[str, Any] | None
    success: str = ""
    """CEL over output, exit_code and inputs; empty asks for the tool's own criteria only."""
    section: Literal["command", "dry_run"] = "command"


@dataclass(frozen=True, slots=True)
class Verified:
    """An order that may start."""

    call: VerifiedCall
    body: Mapping[str, Any]
    read_only: bool
    risk: str
    precheck: VerifiedCall | None = None
    verify: VerifiedCall | None = None
    undo: VerifiedCall | None = None
    """For undo attempts of strategy call."""
    approvers: tuple[str, ...] = field(default=())
    allowed: int = 1
    """How often a change may start in all, by the plan and by people's resolutions."""
    retries: frozenset[str] = frozenset()
    """Attempts after which a person lets the step run once more."""


def verify(
    order: Order,
    trust: Trust,
    *,
    now: datetime,
    starts: int,
    last: Report | None = None,
    undone: Entry | None = None,
) -> Verified:
    """Returns what may be carried out; raises Refusal with the reason otherwise.

    Args:
        order: As received.
        trust: What this agent believes by itself.
        now: For validity of approvals.
        starts: Attempts of the same step and kind that have started on this agent before.
        last: The one of them that started last.
        undone: For an undo: the attempt that is to be undone, as this agent remembers it.
    """
    try:
        verified = _verified(order, trust, now, undone)
        require_allowance(order, verified, starts, last)
        return verified
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise Refusal("MALFORMED", f"step {order.step_id} is not a step body: {exc!r}") from exc


def _verified(order: Order, trust: Trust, now: datetime, undone: Entry | None) -> Verified:
    expected = ids.attempt_id(order.execution_id, order.step_id, order.kind, order.number)
    if order.attempt_id != expected or order.kind not in ("forward", "undo") or order.number < 1:
        raise Refusal("ATTEMPT_ID_MISMATCH", "the attempt's id does not belong to its step")
    manifest, body = _bound_body(order, trust)
    call = _main_call(order, body, trust)
    precheck = _side_call(body["precheck"], "precheck", trust)
    check = _side_call(body["verify"], "verify", trust)
    undo = _undo_call(order, body, trust, undone)
    acting = [item for item in (call, undo) if item is not None]
    worst = _worst([str(body["risk"]), *(_assessed(item) for item in acting)])
    approvals = Approvals(order, manifest, trust.signers, now)
    approvers: tuple[str, ...] = ()
    retries: frozenset[str] = frozenset()
    if worst != "read_only":
        approvers = approvals.require(trust.policy.quorum)
        retries = approvals.retries(order)
    elif not trust.policy.unsigned_reads:
        approvers = approvals.require(1)
    return Verified(
        call=call,
        body=body,
        read_only=worst == "read_only",
        risk=worst,
        precheck=precheck,
        verify=check,
        undo=undo,
        approvers=approvers,
        allowed=int(body["retry"]["max_attempts"]) + len(retries),
        retries=retries,
    )


def require_allowance(order: Order, verified: Verified, starts: int, last: Report | None) -> None:
    """Refuses one start of a change more than the plan and people's resolutions authorise.

    Has to be asked again right before the start is recorded: others may have started meanwhile.
    """
    if verified.read_only:
        return
    step = f"step {order.step_id}"
    if last is not None and last.state == "running":
        raise Refusal("ALREADY_RUNNING", f"{step} is running here as {last.attempt_id}")
    if order.kind == "undo":
        if last is not None and last.state == "completed":
            raise Refusal("ALREADY_UNDONE", f"{step} was undone here as {last.attempt_id}")
        if starts >= MAX_UNDO_STARTS:
            raise Refusal("RETRY_NOT_AUTHORISED", f"the undo of {step} has started {starts} times")
        return
    if last is not None and last.state == "unknown" and last.attempt_id not in verified.retries:
        raise Refusal(
            "RETRY_NOT_AUTHORISED",
            f"{step}: what attempt {last.attempt_id} did is unknown; to run it again needs a "
            "person's signed resolution of that attempt",
        )
    if starts >= verified.allowed:
        raise Refusal(
            "RETRY_NOT_AUTHORISED",
            f"{step} has started {starts} of {verified.allowed} authorised times here; "
            "once more needs a person's signed resolution",
        )


def _bound_body(order: Order, trust: Trust) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        manifest = canonical.loads(order.manifest)
        body = canonical.loads(order.body)
        steps = [*manifest["steps"], *manifest["rollback"]]
        digests = [step["digest"] for step in steps if step["id"] == order.step_id]
        tenant, version = manifest["tenant"], manifest["v"]
    except (canonical.CanonicalError, TypeError, KeyError, AttributeError) as exc:
        raise Refusal("MALFORMED", f"the manifest or step cannot be read: {exc}") from exc
    if digests != [canonical.digest(canonical.STEP_DOMAIN, order.body)]:
        raise Refusal(
            "DIGEST_MISMATCH",
            f"step {order.step_id} is not what the plan's manifest says; it was altered after the "
            "plan was made, so nobody approved this",
        )
    if version != 1 or not isinstance(body, dict) or body.get("v") != 1:
        raise Refusal("VERSION_UNSUPPORTED", "this agent reads version 1 of steps and manifests")
    if body.keys() - _OPTIONAL_KEYS != _BODY_KEYS or body["step_id"] != order.step_id:
        raise Refusal("MALFORMED", f"step {order.step_id}: unexpected {body.keys() ^ _BODY_KEYS}")
    timeout = body["timeout_ms"]
    if type(timeout) is not int or not 0 < timeout <= MAX_TIMEOUT_MS:
        raise Refusal("MALFORMED", f"step {order.step_id}: {timeout!r} is no timeout")
    if trust.tenant and tenant != trust.tenant:
        raise Refusal("WRONG_TENANT", f"the plan is of tenant {tenant}, not {trust.tenant}")
    if trust.segment and body["segment"] not in ("", None, trust.segment):
        raise Refusal(
            "WRONG_SEGMENT", f"the step is for segment {body['segment']}, this is {trust.segment}"
        )
    return manifest, body


def _main_call(order: Order, body: dict[str, Any], trust: Trust) -> VerifiedCall:
    tool = _own_tool(body, trust)
    merged = {**body["inputs"], **_late_inputs(order, body)}
    code = "LATE_INPUT_INVALID" if body["late"] else "INPUT_INVALID"
    needed = order.kind == "forward" or body["undo"]["strategy"] == "state"
    if body["late"] and not needed:
        return VerifiedCall(tool, merged, body["target"], body["success"])
    call = _checked_call(tool, merged, body["target"], body["success"], trust, code)
    return _dry_run(order, call) if "dry_run" in body else call


def _dry_run(order: Order, call: VerifiedCall) -> VerifiedCall:
    """Returns what only asks; a call without a dry run is refused, never carried out instead."""
    if call.tool.dry_run is None:
        raise Refusal("NO_DRY_RUN", f"step {order.step_id}: {call.tool.name} has no dry run")
    return replace(call, section="dry_run")


def _late_inputs(order: Order, body: dict[str, Any]) -> dict[str, Any]:
    if not order.late_inputs:
        late: Any = {}
    elif len(order.late_inputs) > MAX_LATE_BYTES:
        raise Refusal("LATE_INPUT_INVALID", f"late inputs are over {MAX_LATE_BYTES} bytes")
    else:
        try:
            late = canonical.loads(order.late_inputs)
        except canonical.CanonicalError as exc:
            raise Refusal("LATE_INPUT_INVALID", f"late inputs cannot be read: {exc}") from exc
    needs_all = order.kind == "forward" and set(body["late"]) != set(late)
    if not isinstance(late, dict) or needs_all or not set(late) <= set(body["late"]):
        raise Refusal(
            "LATE_INPUT_INVALID",
            f"late inputs must be exactly {', '.join(body['late']) or 'none'}",
        )
    return late


def _side_call(call: dict[str, Any] | None, where: str, trust: Trust) -> VerifiedCall | None:
    """Returns a precheck or verification; these may only ever read."""
    if call is None:
        return None
    if call.get("late"):
        raise Refusal("MALFORMED", f"a {where} takes nothing from an output")
    verified = _whole_call(call, trust)
    if _assessed(verified) != "read_only":
        raise Refusal(
            "NOT_READ_ONLY", f"{where} calls {verified.tool.name}, which may change things"
        )
    return verified


def _undo_call(
    order: Order, body: dict[str, Any], trust: Trust, undone: Entry | None
) -> VerifiedCall | None:
    call = body["undo"]["call"]
    if order.kind != "undo":
        undo_values.paths(call)
        return None
    strategy = body["undo"]["strategy"]
    if strategy == "state":
        return None
    if strategy != "call" or call is None:
        raise Refusal("NO_UNDO", f"step {order.step_id} has no undo an agent could run")
    values = undo_values.of(undone, replace(order, kind="forward").group, call)
    if not values:
        return _whole_call(call, trust)
    merged = {**call, "inputs": {**call["inputs"], **values}}
    return _whole_call(merged, trust, "UNDO_VALUE_INVALID")


def _whole_call(call: dict[str, Any], trust: Trust, code: str = "INPUT_INVALID") -> VerifiedCall:
    tool = _own_tool(call, trust)
    return _checked_call(tool, call["inputs"], call["target"], call["success"], trust, code)


def _own_tool(call: Mapping[str, Any], trust: Trust) -> Tool:
    tool = trust.registry.find(call["tool"])
    if tool is None:
        raise Refusal("UNKNOWN_TOOL", f"this agent has no tool {call['tool']}")
    if tool.digest != call["tool_digest"]:
        raise Refusal(
            "TOOL_DIGEST_MISMATCH",
            f"tool {tool.name}: this agent's definition (version {tool.version}) differs from the "
            f"one the plan was made with ({call['tool_version']}); bring both to the same version",
        )
    return tool


def _checked_call(
    tool: Tool,
    inputs: Mapping[str, Any],
    target: Mapping[str, Any] | None,
    success: str,
    trust: Trust,
    code: str,
) -> VerifiedCall:
    objection = trust.policy.objection(tool, target)
    segment = target.get("segment") if target else ""
    if trust.segment and segment not in ("", None, trust.segment):
        raise Refusal(
            "WRONG_SEGMENT", f"the target is in segment {segment}, this agent in {trust.segment}"
        )
    if objection:
        raise Refusal("POLICY_DENIED", objection)
    typed, faults = tool_inputs.check_inputs(tool, dict(inputs))
    if faults:
        raise Refusal(code, f"{tool.name}: " + "; ".join(str(fault) for fault in faults))
    return VerifiedCall(tool, typed, target, success)


def _assessed(call: VerifiedCall) -> str:
    if call.section == "dry_run":
        return assess_dry_run(call.tool, call.inputs, call.target).risk_class
    return assess(call.tool, call.inputs).risk_class


def _worst(risks: list[str]) -> str:
    known = [risk if risk in _RISKS else "destructive" for risk in risks]
    return max(known, key=_RISKS.index)
