"""Which people have signed for an order, checked against this agent's own allowed_signers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opsconductor.agent.refusal import Refusal
from opsconductor.rpc import canonical, ids
from opsconductor.rpc.allowed_signers import SignersInvalid
from opsconductor.rpc.sshsig import SignatureRejected
from opsconductor.rpc.sshsig import verify as verify_signature
from opsconductor.rpc.statements import (
    NAMESPACE,
    ApprovalStatement,
    ResolutionStatement,
    StatementInvalid,
    parse_statement,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from typing import Any

    from opsconductor.agent.order import Order, Signed
    from opsconductor.rpc.allowed_signers import AllowedSigners

MAX_STATEMENTS = 64
"""More signatures than this are not looked at."""


@dataclass(frozen=True, slots=True)
class Approvals:
    """Statements of an order, those that count and why the others do not."""

    order: Order
    manifest: Mapping[str, Any]
    signers: Callable[[], AllowedSigners]
    now: datetime

    def require(self, quorum: int) -> tuple[str, ...]:
        """Returns the different people who approved; raises Refusal when they are too few."""
        approvers: dict[str, None] = {}
        problems: list[Refusal] = []
        signers = self._load()
        for signed in self.order.approvals[:MAX_STATEMENTS]:
            try:
                statement = self._opened(signed, signers)
                if isinstance(statement, ApprovalStatement):
                    self._check_scope(statement)
                    approvers[statement.approver] = None
            except Refusal as refusal:
                problems.append(refusal)
        if len(approvers) >= quorum:
            return tuple(approvers)
        if problems and not approvers:
            raise problems[0]
        raise Refusal(
            "APPROVAL_MISSING",
            f"step {self.order.step_id} changes something and {len(approvers)} of {quorum} people "
            "have signed for it",
        )

    def retries(self, order: Order) -> frozenset[str]:
        """Returns the earlier attempts after which a person lets the step run once more."""
        signers = self._load()
        earlier = {
            ids.attempt_id(order.execution_id, order.step_id, order.kind, number)
            for number in range(max(1, order.number - 1000), order.number)
        }
        found = set()
        for signed in order.approvals[:MAX_STATEMENTS]:
            try:
                statement = self._opened(signed, signers)
            except Refusal:
                continue
            if isinstance(statement, ResolutionStatement) and statement.covers(order.step_id):
                found.add(statement.attempt_id)
        return frozenset(found & earlier)

    def _load(self) -> AllowedSigners:
        try:
            return self.signers()
        except SignersInvalid as exc:
            raise Refusal(
                "POLICY_LOAD_FAILED", f"allowed_signers of this agent cannot be used: {exc}"
            ) from exc

    def _opened(
        self, signed: Signed, signers: AllowedSigners
    ) -> ApprovalStatement | ResolutionStatement:
        """Returns a statement of our signers that is for this execution and in force."""
        try:
            statement = parse_statement(signed.statement)
            verify_signature(
                signed.statement,
                signed.signature,
                namespace=NAMESPACE,
                signers=signers,
                principal=statement.approver,
                at=self.now,
            )
        except StatementInvalid as exc:
            raise Refusal("SIGNATURE_INVALID", f"an approval is malformed: {exc}") from exc
        except SignatureRejected as exc:
            raise Refusal("SIGNATURE_INVALID", f"an approval does not count: {exc}") from exc
        if (statement.tenant, statement.execution_id) != (
            self.manifest["tenant"],
            self.order.execution_id,
        ):
            raise Refusal(
                "APPROVAL_DIGEST_MISMATCH",
                f"{statement.approver} signed for another execution, {statement.execution_id}",
            )
        if not statement.valid_at(self.now):
            raise Refusal(
                "APPROVAL_EXPIRED",
                f"{statement.approver}'s signature is valid from {statement.not_before:%FT%TZ} to "
                f"{statement.not_after:%FT%TZ}; by this agent's clock it is {self.now:%FT%TZ}",
            )
        return statement

    def _check_scope(self, statement: ApprovalStatement) -> None:
        digest = canonical.digest(canonical.MANIFEST_DOMAIN, self.order.manifest)
        if statement.plan_digest != digest:
            raise Refusal(
                "APPROVAL_DIGEST_MISMATCH",
                f"{statement.approver} approved another plan than the one that was sent; it was "
                "altered after the approval",
            )
        if not statement.covers(self.order.step_id):
            raise Refusal(
                "APPROVAL_MISSING",
                f"{statement.approver} approved {', '.join(statement.steps)}, "
                f"not step {self.order.step_id}",
            )
