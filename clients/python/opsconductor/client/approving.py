"""What you see is what you sign: an approval is checked here before anything is signed.

Nothing the orchestrator says about a plan is believed: the digests of the manifest and of every
step body are computed anew from the bytes, and the statement names only what was checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.rpc import canonical
from opsconductor.rpc.errors import DigestMismatch, InvalidTransition
from opsconductor.rpc.statements import (
    NAMESPACE,
    StatementInvalid,
    approval_statement,
    resolution_statement,
)
from opsconductor.v1 import execution_service_pb2 as executions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from opsconductor.client.signer import Signer
    from opsconductor.v1.approval_service_pb2 import ApprovalRequest, GetApprovalResponse

VALIDITY = timedelta(hours=24)
"""How long a signed statement counts unless said otherwise."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement and the signature over exactly its bytes."""

    statement: bytes
    signature: str


@dataclass(frozen=True, slots=True)
class CheckedApproval:
    """An approval request whose content hashes to the digests it is asked under."""

    approval: ApprovalRequest
    manifest: Mapping[str, Any]
    bodies: Mapping[str, Mapping[str, Any]]
    """Step bodies by id, rollback calls among them: what an agent would run, word for word."""


def check(response: GetApprovalResponse) -> CheckedApproval:
    """Returns the request with its content; raises DigestMismatch when they do not match."""
    approval = response.approval
    if canonical.digest(canonical.MANIFEST_DOMAIN, response.manifest) != approval.plan_digest:
        raise DigestMismatch(f"the manifest is not the one {approval.approval_id} asks for")
    manifest = _object(response.manifest, "the manifest")
    digests = _digests(manifest)
    if len(approval.step_ids) != len(response.step_bodies) or not approval.step_ids:
        raise DigestMismatch(
            f"{approval.approval_id} covers {len(approval.step_ids)} steps "
            f"but shows {len(response.step_bodies)}"
        )
    bodies = {}
    for step_id, body in zip(approval.step_ids, response.step_bodies, strict=True):
        if canonical.digest(canonical.STEP_DOMAIN, body) != digests.get(step_id):
            raise DigestMismatch(f"step {step_id} is not the one in the manifest")
        bodies[step_id] = _object(body, f"step {step_id}")
        if bodies[step_id].get("step_id") != step_id:
            raise DigestMismatch(f"the body shown for step {step_id} belongs to another step")
    return CheckedApproval(approval, manifest, bodies)


def sign_approval(
    checked: CheckedApproval,
    signer: Signer,
    *,
    now: datetime,
    validity: timedelta = VALIDITY,
    reason: str = "",
) -> Signed:
    """Returns a signed approval of exactly what was checked."""
    try:
        statement = approval_statement(
            tenant=str(checked.manifest.get("tenant", "")),
            execution_id=checked.approval.execution_id,
            plan_digest=checked.approval.plan_digest,
            steps=list(checked.bodies),
            approver=signer.name,
            not_before=now,
            not_after=now + validity,
            reason=reason,
        )
    except StatementInvalid as error:
        raise DigestMismatch(f"no statement can be made of this request: {error}") from error
    return Signed(statement, signer.sign(statement, NAMESPACE))


def sign_retry(
    execution: executions.Execution,
    step_id: str,
    signer: Signer,
    *,
    tenant: str,
    now: datetime,
    validity: timedelta = VALIDITY,
    reason: str = "",
) -> Signed:
    """Returns a signed resolution that lets a step run again after its unknown attempt.

    Raises InvalidTransition when the step's last attempt is not unknown.
    """
    attempt = _unknown_attempt(execution, step_id)
    statement = resolution_statement(
        tenant=tenant,
        execution_id=execution.execution_id,
        step_id=step_id,
        attempt_id=attempt.attempt_id,
        approver=signer.name,
        not_before=now,
        not_after=now + validity,
        reason=reason,
    )
    return Signed(statement, signer.sign(statement, NAMESPACE))


def _digests(manifest: Mapping[str, Any]) -> dict[str, str]:
    try:
        entries = [*manifest["steps"], *manifest["rollback"]]
        return {str(entry["id"]): str(entry["digest"]) for entry in entries}
    except (KeyError, TypeError) as error:
        raise DigestMismatch("the manifest lacks its list of steps") from error


def _unknown_attempt(execution: executions.Execution, step_id: str) -> executions.Attempt:
    for step in execution.steps:
        if step.step_id == step_id and step.attempts:
            attempt = step.attempts[-1]
            if attempt.state == executions.ATTEMPT_STATE_UNKNOWN:
                return attempt
    raise InvalidTransition(
        f"step {step_id} of {execution.execution_id} has no attempt whose outcome is unknown"
    )


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = canonical.loads(data)
    except canonical.CanonicalError as error:
        raise DigestMismatch(f"{what} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise DigestMismatch(f"{what} is not a JSON object")
    return value
