"""Requests from plain Python values."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.struct_pb2 import Struct

from opsconductor.client.words import execution_state
from opsconductor.rpc.errors import InvalidArgument
from opsconductor.v1.approval_service_pb2 import (
    APPROVAL_STATE_UNSPECIFIED,
    ApprovalState,
    DecideRequest,
    DecisionKind,
)
from opsconductor.v1.execution_service_pb2 import ListRequest, SubmitRequest, UnknownResolution
from opsconductor.v1.plan_service_pb2 import Plan, PlanSource

if TYPE_CHECKING:
    from opsconductor.client.approving import Signed
    from opsconductor.v1.approval_service_pb2 import ApprovalRequest

PlanLike = PlanSource | Plan | Mapping[str, Any] | str | bytes
"""A plan as a message, as a document's text, or as the document read into a mapping."""


def request_id(given: str = "") -> str:
    """Returns the caller's key, or a fresh one: every mutating call can then be repeated safely."""
    return given or f"req_{secrets.token_hex(16)}"


def plan_source(plan: PlanLike) -> PlanSource:
    """Returns the plan as it is sent; raises InvalidArgument for values JSON cannot carry."""
    if isinstance(plan, PlanSource):
        return plan
    if isinstance(plan, Plan):
        return PlanSource(plan=plan)
    if isinstance(plan, str):
        return PlanSource(document=plan.encode())
    if isinstance(plan, bytes):
        return PlanSource(document=plan)
    try:
        return PlanSource(document=json.dumps(dict(plan), allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"the plan is not JSON: {error}") from error


def struct(values: Mapping[str, Any]) -> Struct:
    """Returns a mapping as a message; raises InvalidArgument for values JSON cannot carry."""
    try:
        plain = json.loads(json.dumps(dict(values), allow_nan=False))
        return ParseDict(plain, Struct())
    except (ParseError, TypeError, ValueError) as error:
        raise InvalidArgument(f"the inputs are not JSON: {error}") from error


def submit_request(
    plan: PlanLike,
    *,
    given_request_id: str,
    external_id: str,
    actor: str,
    wait: bool,
    traceparent: str,
) -> SubmitRequest:
    """Returns a submission."""
    return SubmitRequest(
        request_id=request_id(given_request_id),
        plan=plan_source(plan),
        external_id=external_id,
        actor=actor,
        wait=wait,
        traceparent=traceparent,
    )


def list_request(
    states: tuple[str, ...], text: str, page_size: int, page_token: str
) -> ListRequest:
    """Returns a listing; states are words or synonyms."""
    return ListRequest(
        states=[execution_state(word) for word in states],
        text=text,
        page_size=page_size,
        page_token=page_token,
    )


def decide_request(
    approval_id: str,
    decision: str,
    reason: str,
    signed: Signed | None,
    edited_plan: PlanLike | None,
    given_request_id: str,
) -> DecideRequest:
    """Returns a decision; raises InvalidArgument for a word that is none."""
    request = DecideRequest(
        request_id=request_id(given_request_id),
        approval_id=approval_id,
        kind=DecisionKind.Value(_value(decision, "DECISION_KIND_", DecisionKind.keys())),
        reason=reason,
    )
    if signed is not None:
        request.statement, request.signature = signed.statement, signed.signature
    if edited_plan is not None:
        request.edited_plan.CopyFrom(plan_source(edited_plan))
    return request


def is_recorded(request: DecideRequest, approval: ApprovalRequest) -> bool:
    """Tells whether a decision stands in an approval request, word for word."""
    return any(
        (each.kind, each.reason, each.statement, each.signature)
        == (request.kind, request.reason, request.statement, request.signature)
        for each in approval.decisions
    )


def resolution(word: str) -> UnknownResolution.ValueType:
    """Returns what ``completed``, ``failed`` or ``retry`` stand for."""
    return UnknownResolution.Value(_value(word, "UNKNOWN_RESOLUTION_", UnknownResolution.keys()))


def approval_state(word: str) -> ApprovalState.ValueType:
    """Returns the state of a word; empty means all."""
    if not word:
        return APPROVAL_STATE_UNSPECIFIED
    return ApprovalState.Value(_value(word, "APPROVAL_STATE_", ApprovalState.keys()))


def _value(word: str, prefix: str, names: Sequence[str]) -> str:
    name = prefix + word.strip().upper().replace("-", "_")
    if name in names[1:]:
        return name
    words = ", ".join(each.removeprefix(prefix).lower() for each in names[1:])
    raise InvalidArgument(f"{word!r} is none of {words}")
