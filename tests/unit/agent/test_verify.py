from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.orders import (
    CHANGE,
    KEEP,
    NOW,
    READ,
    Orchestrator,
    Person,
    body_of,
    call_of,
    make_tool,
    manifest_of,
    registry,
    signers,
)
from opsconductor.agent import verify as verify_module
from opsconductor.agent.order import Signed
from opsconductor.agent.policy import Policy
from opsconductor.agent.refusal import Refusal
from opsconductor.agent.verify import Trust, Verified
from opsconductor.rpc import canonical
from opsconductor.rpc.allowed_signers import AllowedSigners, SignersInvalid

if TYPE_CHECKING:
    from opsconductor.agent.order import Order

ALICE, BOB, EVE = Person.new("alice"), Person.new("bob"), Person.new("eve")
CHANGE_BODY = body_of(CHANGE, retry={**body_of(CHANGE)["retry"], "max_attempts": 2})


@pytest.fixture
def trust() -> Trust:
    return Trust(registry(), Policy(), lambda: signers(ALICE, BOB), tenant="default", segment="dmz")


@pytest.fixture
def orchestrator() -> Orchestrator:
    return Orchestrator(people=(ALICE,))


def verify(order: Order, trust: Trust, *, starts: int = 0, **at: Any) -> Verified:
    return verify_module.verify(order, trust, now=NOW + timedelta(**at), starts=starts)


def refused(order: Order, trust: Trust, **circumstances: Any) -> str:
    with pytest.raises(Refusal) as caught:
        verify(order, trust, **circumstances)
    assert caught.value.message
    return caught.value.code


def test_a_read_needs_no_signature(trust: Trust) -> None:
    verified = verify(Orchestrator().order(body_of(READ)), trust)
    assert verified.read_only
    assert verified.call.inputs == {"word": "hello"}


def test_a_signed_change_is_allowed_and_names_the_approver(
    trust: Trust, orchestrator: Orchestrator
) -> None:
    verified = verify(orchestrator.order(CHANGE_BODY), trust)
    assert not verified.read_only
    assert verified.approvers == ("alice",)


def test_an_unsigned_change_is_refused(trust: Trust) -> None:
    assert refused(Orchestrator().order(CHANGE_BODY), trust) == "APPROVAL_MISSING"


def test_a_body_altered_after_approval_is_refused(trust: Trust, orchestrator: Orchestrator) -> None:
    order = orchestrator.order(CHANGE_BODY)
    altered = canonical.dumps({**CHANGE_BODY, "inputs": {"word": "evil"}})
    assert refused(replace(order, body=altered), trust) == "DIGEST_MISMATCH"


def test_a_manifest_altered_with_its_body_is_refused(
    trust: Trust, orchestrator: Orchestrator
) -> None:
    order = orchestrator.order(CHANGE_BODY)
    body = {**CHANGE_BODY, "inputs": {"word": "evil"}}
    forged = replace(order, body=canonical.dumps(body), manifest=canonical.dumps(manifest_of(body)))
    assert refused(forged, trust) == "APPROVAL_DIGEST_MISMATCH"


def pointers(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for key, item in value.items() for p in pointers(item, (*at, key))] or [at]
    if isinstance(value, list):
        return [p for key, item in enumerate(value) for p in pointers(item, (*at, key))] or [at]
    return [at]


def mutated(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copy = value.copy()
    copy[at[0]] = mutated(value[at[0]], at[1:], new)
    return copy


JUNK = st.sampled_from(["", "x", 0, 1, 7, None, True, False, [], {}, ["a"], {"a": 1}, -1, 2.5])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(pointers(manifest_of(CHANGE_BODY))), JUNK)
def test_no_field_of_the_manifest_can_be_changed(pointer: tuple[Any, ...], new: Any) -> None:
    trust = Trust(registry(), Policy(), lambda: signers(ALICE), tenant="default")
    order = Orchestrator(people=(ALICE,)).order(CHANGE_BODY)
    manifest = canonical.dumps(mutated(manifest_of(CHANGE_BODY), pointer, new))
    if manifest != order.manifest:
        assert refused(replace(order, manifest=manifest), trust)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(pointers(CHANGE_BODY)), JUNK)
def test_no_field_of_the_body_can_be_changed(pointer: tuple[Any, ...], new: Any) -> None:
    trust = Trust(registry(), Policy(), lambda: signers(ALICE), tenant="default")
    order = Orchestrator(people=(ALICE,)).order(CHANGE_BODY)
    body = canonical.dumps(mutated(CHANGE_BODY, pointer, new))
    if body != order.body:
        assert refused(replace(order, body=body), trust) == "DIGEST_MISMATCH"


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(pointers(body_of(READ))), JUNK)
def test_junk_in_a_matching_body_never_raises_anything_but_a_refusal(
    pointer: tuple[Any, ...], new: Any
) -> None:
    trust = Trust(registry(), Policy(), AllowedSigners, tenant="default")
    body = mutated(body_of(READ), pointer, new)
    try:
        order = replace(Orchestrator().order(body_of(READ)), body=canonical.dumps(body))
        manifest = manifest_of(body_of(READ))
        manifest["steps"][0]["digest"] = canonical.digest(canonical.STEP_DOMAIN, order.body)
        verify(replace(order, manifest=canonical.dumps(manifest)), trust)
    except Refusal:
        pass


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=40), st.integers(0, 2))
def test_bytes_of_any_kind_are_refused(junk: bytes, which: int) -> None:
    trust = Trust(registry(), Policy(), AllowedSigners)
    order = Orchestrator().order(body_of(READ))
    fields: list[dict[str, Any]] = [
        {"body": junk},
        {"manifest": junk},
        {"late_inputs": junk if junk not in (b"", b"{}") else b"x"},
    ]
    assert refused(replace(order, **fields[which]), trust)


@pytest.mark.parametrize(
    "changes",
    [
        {"execution_id": "exec_2"},
        {"step_id": "two"},
        {"kind": "undo"},
        {"number": 2},
        {"attempt_id": "att_0"},
    ],
)
def test_an_attempt_id_binds_execution_step_kind_and_number(
    trust: Trust, orchestrator: Orchestrator, changes: dict[str, Any]
) -> None:
    order = replace(orchestrator.order(CHANGE_BODY), **changes)
    assert refused(order, trust) == "ATTEMPT_ID_MISMATCH"


def test_an_approval_of_another_execution_is_refused(trust: Trust) -> None:
    stolen = Orchestrator("exec_other", people=(ALICE,)).order(CHANGE_BODY).approvals
    order = replace(Orchestrator().order(CHANGE_BODY), approvals=stolen)
    assert refused(order, trust) == "APPROVAL_DIGEST_MISMATCH"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"steps": ["two"]}, "APPROVAL_MISSING"),
        ({"steps": ["one"]}, ""),
        ({"tenant": "other"}, "APPROVAL_DIGEST_MISMATCH"),
        ({"plan_digest": "sha256:" + "0" * 64}, "APPROVAL_DIGEST_MISMATCH"),
        (
            {"not_after": NOW - timedelta(minutes=6), "not_before": NOW - timedelta(hours=1)},
            "APPROVAL_EXPIRED",
        ),
        ({"not_before": NOW + timedelta(minutes=6)}, "APPROVAL_EXPIRED"),
        ({"not_after": NOW - timedelta(minutes=4), "not_before": NOW - timedelta(hours=1)}, ""),
    ],
)
def test_an_approval_counts_for_its_steps_tenant_plan_and_time(
    trust: Trust, changes: dict[str, Any], code: str
) -> None:
    orchestrator = Orchestrator()
    order = orchestrator.order(CHANGE_BODY)
    signed = ALICE.sign(orchestrator.approval(order.manifest, approver="alice", **changes))
    order = replace(order, approvals=(signed,))
    if code:
        assert refused(order, trust) == code
    else:
        assert verify(order, trust).approvers == ("alice",)


def test_forged_signatures_are_refused(trust: Trust) -> None:
    orchestrator = Orchestrator()
    order = orchestrator.order(CHANGE_BODY)
    alices = orchestrator.approval(order.manifest, approver="alice")
    good = ALICE.sign(alices)
    forgeries = [
        EVE.sign(alices),
        EVE.sign(orchestrator.approval(order.manifest, approver="eve")),
        BOB.sign(alices),
        ALICE.sign(alices, "git"),
        ALICE.sign(alices, "file"),
        Signed(alices.replace(b"hour", b"year") + b" ", good.signature),
        Signed(b"{}", good.signature),
        Signed(alices, ""),
        Signed(alices, good.signature + "junk"),
        Signed(alices, good.signature.replace("A", "B", 1)),
    ]
    for forgery in forgeries:
        assert refused(replace(order, approvals=(forgery,)), trust) == "SIGNATURE_INVALID"


def test_two_people_are_needed_when_the_agent_says_so(trust: Trust) -> None:
    two = replace(trust, policy=Policy(quorum=2))
    assert refused(Orchestrator(people=(ALICE,)).order(CHANGE_BODY), two) == "APPROVAL_MISSING"
    assert (
        refused(Orchestrator(people=(ALICE, ALICE)).order(CHANGE_BODY), two) == "APPROVAL_MISSING"
    )
    assert verify(Orchestrator(people=(ALICE, BOB)).order(CHANGE_BODY), two).approvers == (
        "alice",
        "bob",
    )


def test_a_claimed_risk_below_the_real_one_does_not_help(trust: Trust) -> None:
    order = Orchestrator().order({**CHANGE_BODY, "risk": "read_only"})
    assert refused(order, trust) == "APPROVAL_MISSING"


def test_a_claimed_risk_above_the_real_one_counts(trust: Trust) -> None:
    order = Orchestrator().order({**body_of(READ), "risk": "destructive"})
    assert refused(order, trust) == "APPROVAL_MISSING"


def test_signers_that_cannot_be_read_refuse_changes_only(trust: Trust) -> None:
    def broken() -> AllowedSigners:
        raise SignersInvalid("junk", 7)

    without = replace(trust, signers=broken)
    assert (
        refused(Orchestrator(people=(ALICE,)).order(CHANGE_BODY), without) == "POLICY_LOAD_FAILED"
    )
    assert verify(Orchestrator().order(body_of(READ)), without).read_only


def test_one_start_more_than_authorised_needs_a_signed_resolution(trust: Trust) -> None:
    orchestrator = Orchestrator(people=(ALICE,))
    third = orchestrator.order(CHANGE_BODY, number=3)
    assert verify(third, trust, starts=1)
    assert refused(third, trust, starts=2) == "RETRY_NOT_AUTHORISED"
    resolution = BOB.sign(orchestrator.resolution("one", 2, approver="bob"))
    resolved = replace(third, approvals=(*third.approvals, resolution))
    assert verify(resolved, trust, starts=2)
    assert refused(resolved, trust, starts=3) == "RETRY_NOT_AUTHORISED"


def test_a_resolution_is_no_approval_and_only_for_its_own_step_and_execution(trust: Trust) -> None:
    orchestrator = Orchestrator(people=(ALICE,))
    order = orchestrator.order(CHANGE_BODY, number=3)
    alone = BOB.sign(orchestrator.resolution("one", 2, approver="bob"))
    assert refused(replace(order, approvals=(alone,)), trust) == "APPROVAL_MISSING"
    for wrong in (
        orchestrator.resolution("two", 2, approver="bob"),
        orchestrator.resolution("one", 3, approver="bob"),
        orchestrator.resolution("one", 2, approver="bob", execution_id="exec_2"),
    ):
        with_wrong = replace(order, approvals=(*order.approvals, BOB.sign(wrong)))
        assert refused(with_wrong, trust, starts=2) == "RETRY_NOT_AUTHORISED"


def test_a_tool_with_another_definition_is_refused(trust: Trust) -> None:
    order = Orchestrator().order({**body_of(READ), "tool_digest": "sha256:" + "0" * 64})
    assert refused(order, trust) == "TOOL_DIGEST_MISMATCH"


def test_an_unknown_tool_is_refused(trust: Trust) -> None:
    order = Orchestrator().order(body_of(make_tool("other")))
    assert refused(order, trust) == "UNKNOWN_TOOL"


def test_another_tenant_or_segment_is_refused(trust: Trust) -> None:
    other = replace(trust, tenant="acme")
    assert refused(Orchestrator().order(body_of(READ)), other) == "WRONG_TENANT"
    elsewhere = Orchestrator().order(body_of(READ, segment="office"))
    assert refused(elsewhere, trust) == "WRONG_SEGMENT"
    assert verify(Orchestrator().order(body_of(READ, segment="dmz")), trust)


def test_inputs_are_checked_against_the_agents_own_schema(trust: Trust) -> None:
    order = Orchestrator().order(body_of(READ, inputs={"word": 5, "more": 1}))
    with pytest.raises(Refusal) as caught:
        verify(order, trust)
    assert caught.value.code == "INPUT_INVALID"
    assert "word" in caught.value.message
    assert "more" in caught.value.message


LATE = body_of(READ, inputs={"word": "${{ steps.a.output.word }}"}, late=["word"])


def test_late_inputs_take_their_place_typed(trust: Trust) -> None:
    verified = verify(Orchestrator().order(LATE, late={"word": "now"}), trust)
    assert verified.call.inputs == {"word": "now"}


@pytest.mark.parametrize(
    "late", [None, {}, {"word": 5}, {"word": "x" * 41}, {"word": "x", "more": 1}, {"more": "x"}]
)
def test_late_inputs_that_were_not_declared_or_do_not_fit_are_refused(
    trust: Trust, late: dict[str, Any] | None
) -> None:
    assert refused(Orchestrator().order(LATE, late=late), trust) == "LATE_INPUT_INVALID"


def test_a_step_without_late_inputs_takes_none(trust: Trust) -> None:
    order = Orchestrator().order(body_of(READ), late={"word": "evil"})
    assert refused(order, trust) == "LATE_INPUT_INVALID"


def test_the_agents_policy_denies_tools_methods_and_targets(trust: Trust) -> None:
    target = {"name": "web-01", "address": "10.0.0.5"}
    order = Orchestrator().order(body_of(READ, target=target))
    for policy in (
        Policy(tools=("other",)),
        Policy(deny_tools=("re*",)),
        Policy(methods=("http",)),
        Policy(targets=("10.1.0.0/16",)),
        Policy(deny_targets=("10.0.0.0/8",)),
        Policy(deny_targets=("web-*",)),
    ):
        assert refused(order, replace(trust, policy=policy)) == "POLICY_DENIED"
    assert verify(order, replace(trust, policy=Policy(targets=("10.0.0.0/24", "web-*"))))


def test_reads_need_a_signature_where_policy_says_so(trust: Trust) -> None:
    strict = replace(trust, policy=Policy(unsigned_reads=False))
    assert refused(Orchestrator().order(body_of(READ)), strict) == "APPROVAL_MISSING"
    assert verify(Orchestrator(people=(BOB,)).order(body_of(READ)), strict)


def _at(where: str, call: dict[str, Any]) -> dict[str, Any]:
    return {where: call}


@pytest.mark.parametrize("where", ["precheck", "verify"])
def test_prechecks_and_verifications_may_only_read(trust: Trust, where: str) -> None:
    good = Orchestrator().order(body_of(READ, **_at(where, call_of(READ))))
    assert verify(good, trust)
    bad = Orchestrator().order(body_of(READ, **_at(where, call_of(CHANGE, risk="read_only"))))
    assert refused(bad, trust) == "NOT_READ_ONLY"


def test_an_undo_call_is_checked_like_any_other(trust: Trust) -> None:
    undo = {"strategy": "call", "manual": "", "call": call_of(CHANGE)}
    body = body_of(CHANGE, undo=undo)
    assert refused(Orchestrator().order(body, kind="undo"), trust) == "APPROVAL_MISSING"
    verified = verify(Orchestrator(people=(ALICE,)).order(body, kind="undo"), trust)
    assert verified.undo is not None
    assert verified.undo.tool is trust.registry.get("change")


def test_a_step_without_undo_is_never_undone(trust: Trust) -> None:
    order = Orchestrator(people=(ALICE,)).order(body_of(CHANGE), kind="undo")
    assert refused(order, trust) == "NO_UNDO"


def test_a_state_undo_needs_no_call(trust: Trust) -> None:
    body = body_of(KEEP, undo={"strategy": "state", "manual": "", "call": None})
    assert verify(Orchestrator(people=(ALICE,)).order(body, kind="undo"), trust).undo is None


def test_other_steps_of_the_plan_are_bound_too(trust: Trust, orchestrator: Orchestrator) -> None:
    other = body_of(READ, "two")
    order = orchestrator.order(CHANGE_BODY, others=(other,))
    manifest = json.loads(order.manifest)
    manifest["steps"].reverse()
    assert refused(replace(order, manifest=canonical.dumps(manifest)), trust)
