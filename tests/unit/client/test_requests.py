"""Requests are made of plain values, and what cannot be sent is refused here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opsconductor.client.requests import (
    PlanLike,
    approval_state,
    decide_request,
    plan_source,
    request_id,
    resolution,
    struct,
)
from opsconductor.rpc.errors import InvalidArgument
from opsconductor.v1 import approval_service_pb2 as approvals
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1.plan_service_pb2 import Plan, PlanSource


@pytest.mark.parametrize("plan", ["name: a\n", b"name: a\n"])
def test_text_is_sent_as_the_person_wrote_it(plan: PlanLike) -> None:
    assert plan_source(plan).document == b"name: a\n"


def test_a_mapping_is_sent_as_json() -> None:
    assert json.loads(plan_source({"name": "é"}).document) == {"name": "é"}


def test_messages_are_sent_as_they_are() -> None:
    plan = Plan(name="a")
    assert plan_source(plan) == PlanSource(plan=plan)
    assert plan_source(PlanSource(plan=plan)) == PlanSource(plan=plan)


@pytest.mark.parametrize("value", [{"a": object()}, {"a": float("nan")}])
def test_values_json_cannot_carry_are_refused(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="not JSON"):
        plan_source(value)
    with pytest.raises(InvalidArgument, match="not JSON"):
        struct(value)


def test_every_mutating_call_gets_a_key_unless_the_caller_has_one() -> None:
    assert request_id("mine") == "mine"
    assert request_id() != request_id()


def test_decisions_and_resolutions_are_words() -> None:
    assert resolution("retry") == executions.UNKNOWN_RESOLUTION_RETRY
    assert approval_state("") == approvals.APPROVAL_STATE_UNSPECIFIED
    assert approval_state("pending") == approvals.APPROVAL_STATE_PENDING
    request = decide_request("appr_1", "request-changes", "why", None, None, "r")
    assert request.kind == approvals.DECISION_KIND_REQUEST_CHANGES
    edit = decide_request("appr_1", "edit", "why", None, {"name": "b"}, "r")
    assert json.loads(edit.edited_plan.document) == {"name": "b"}


@pytest.mark.parametrize("word", ["", "unspecified", "maybe"])
def test_a_word_that_is_no_decision_is_refused_with_those_that_are(word: str) -> None:
    with pytest.raises(InvalidArgument, match="approve, reject, request_changes, edit"):
        decide_request("appr_1", word, "", None, None, "")
    with pytest.raises(InvalidArgument, match="completed, failed, retry"):
        resolution(word)
