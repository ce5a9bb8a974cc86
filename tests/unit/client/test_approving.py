"""Nothing is signed before its digests were computed here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from opsconductor.client.approving import check, sign_approval, sign_retry
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import DigestMismatch, InvalidTransition
from opsconductor.rpc.sshsig import AllowedSigners, generate_key, sign, verify
from opsconductor.rpc.statements import NAMESPACE, ApprovalStatement, parse_statement
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1.approval_service_pb2 import ApprovalRequest, GetApprovalResponse

if TYPE_CHECKING:
    from opsconductor.client.signer import Signer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PRIVATE, PUBLIC = generate_key()


@dataclass(frozen=True)
class Alice:
    name: str = "alice"

    def sign(self, message: bytes, namespace: str) -> str:
        return sign(message, PRIVATE, namespace)


ALICE: Signer = Alice()


def body(step_id: str) -> bytes:
    return canonical.dumps({"v": 1, "step_id": step_id, "tool": "restart_service"})


def entry(step_id: str) -> dict[str, Any]:
    return {"id": step_id, "digest": canonical.digest(canonical.STEP_DOMAIN, body(step_id))}


def response(manifest: bytes | None = None, **changes: Any) -> GetApprovalResponse:
    """Returns an honest answer for steps a and b of a plan a, b, c with one rollback call."""
    manifest = manifest or canonical.dumps(
        {
            "tenant": "acme",
            "steps": [entry("a"), entry("b"), entry("c")],
            "rollback": [entry("rollback-1")],
        }
    )
    fields = {
        "approval_id": "appr_1",
        "execution_id": "exec_1",
        "step_ids": ["a", "b"],
        "plan_digest": canonical.digest(canonical.MANIFEST_DOMAIN, manifest),
    }
    bodies = changes.pop("step_bodies", [body("a"), body("b")])
    return GetApprovalResponse(
        approval=ApprovalRequest(**(fields | changes)), manifest=manifest, step_bodies=bodies
    )


def test_an_honest_request_is_signed_for_exactly_what_it_shows() -> None:
    shown = ["a", "b", "rollback-1"]
    checked = check(response(step_ids=shown, step_bodies=[body(each) for each in shown]))
    assert checked.bodies["b"]["tool"] == "restart_service"
    signed = sign_approval(checked, ALICE, now=NOW, validity=timedelta(hours=1), reason="ok")
    assert verify(
        signed.statement,
        signed.signature,
        namespace=NAMESPACE,
        signers=AllowedSigners.parse(f"alice {PUBLIC}"),
        principal="alice",
        at=NOW,
    )
    statement = parse_statement(signed.statement)
    assert isinstance(statement, ApprovalStatement)
    assert (statement.tenant, statement.execution_id, statement.reason) == ("acme", "exec_1", "ok")
    assert statement.plan_digest == checked.approval.plan_digest
    assert statement.steps == ("a", "b", "rollback-1")
    assert statement.not_after - statement.not_before == timedelta(hours=1)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"plan_digest": "sha256:" + "00" * 32}, "manifest is not the one"),
        ({"step_bodies": [body("a"), body("b") + b" "]}, "step b is not the one"),
        ({"step_bodies": [body("b"), body("a")]}, "step a is not the one"),
        ({"step_bodies": [body("a")]}, "covers 2 steps but shows 1"),
        ({"step_ids": [], "step_bodies": []}, "covers 0 steps"),
        ({"step_ids": ["a", "invented"], "step_bodies": [body("a"), body("b")]}, "invented"),
        ({"manifest": b"[]"}, "not a JSON object"),
        ({"manifest": b"{"}, "cannot be read"),
        ({"manifest": b'{"steps":[{"id":"a"}],"rollback":[]}'}, "lacks its list"),
        ({"manifest": b'{"steps":7,"rollback":[]}'}, "lacks its list"),
        ({"manifest": b'{"steps":[],"steps":[],"rollback":[]}'}, "duplicate key"),
    ],
)
def test_a_request_that_shows_other_than_it_asks_is_refused(
    changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(DigestMismatch, match=why):
        check(response(**changes))


def test_a_body_listed_under_another_steps_name_is_refused() -> None:
    manifest = canonical.dumps(
        {"tenant": "acme", "steps": [entry("a") | {"id": "b"}], "rollback": []}
    )
    with pytest.raises(DigestMismatch, match="belongs to another step"):
        check(response(manifest, step_ids=["b"], step_bodies=[body("a")]))


def test_a_manifest_without_tenant_is_not_signed() -> None:
    manifest = canonical.dumps({"steps": [entry("a"), entry("b")], "rollback": []})
    with pytest.raises(DigestMismatch, match="tenant"):
        sign_approval(check(response(manifest)), ALICE, now=NOW)


def run(*states: executions.AttemptState.ValueType) -> executions.Execution:
    attempts = [
        executions.Attempt(attempt_id=f"att_{number}", state=state)
        for number, state in enumerate(states, start=1)
    ]
    step = executions.StepStatus(step_id="restart", attempts=attempts)
    return executions.Execution(execution_id="exec_1", steps=[step])


def test_a_retry_is_signed_for_the_unknown_attempt() -> None:
    execution = run(executions.ATTEMPT_STATE_FAILED, executions.ATTEMPT_STATE_UNKNOWN)
    signed = sign_retry(execution, "restart", ALICE, tenant="acme", now=NOW, reason="looked")
    assert json.loads(signed.statement) | {"nonce": ""} == {
        "type": "opsconductor.resolution/1",
        "resolution": "retry",
        "tenant": "acme",
        "execution_id": "exec_1",
        "step_id": "restart",
        "attempt_id": "att_2",
        "approver": "alice",
        "not_before": "2026-03-01T12:00:00Z",
        "not_after": "2026-03-02T12:00:00Z",
        "nonce": "",
        "reason": "looked",
    }


@pytest.mark.parametrize(
    ("execution", "step_id"),
    [
        (run(), "restart"),
        (run(executions.ATTEMPT_STATE_UNKNOWN, executions.ATTEMPT_STATE_FAILED), "restart"),
        (run(executions.ATTEMPT_STATE_UNKNOWN), "other"),
    ],
)
def test_only_an_unknown_outcome_can_be_retried(
    execution: executions.Execution, step_id: str
) -> None:
    with pytest.raises(InvalidTransition, match="no attempt whose outcome is unknown"):
        sign_retry(execution, step_id, ALICE, tenant="acme", now=NOW)
