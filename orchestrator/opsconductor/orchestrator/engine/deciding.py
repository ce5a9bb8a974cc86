"""Deciding: people's words about approval requests and unknown outcomes, with their signatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions import commands
from opsconductor.rpc.errors import DigestMismatch, InvalidArgument, NotFound, SignatureInvalid
from opsconductor.rpc.failpoints import hit
from opsconductor.rpc.statements import (
    NAMESPACE,
    ApprovalStatement,
    ResolutionStatement,
    StatementInvalid,
    parse_statement,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions import events as ev
    from opsconductor.orchestrator.domain.executions.execution import Approval, Execution
    from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.planning import Judged, Planner
    from opsconductor.orchestrator.store.store import Store
    from opsconductor.rpc.allowed_signers import AllowedSigners


@dataclass(frozen=True)
class Words:
    """What one person says."""

    person: str
    tenant: str
    reason: str = ""
    statement: bytes = b""
    signature: str = ""


class Deciding:
    """Records decisions after checking that their signatures say the same."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        planner: Planner,
        signers: Callable[[], AllowedSigners],
    ) -> None:
        self._store = store
        self._engine = engine
        self._planner = planner
        self._signers = signers

    async def decide(self, approval_id: str, kind: str, words: Words) -> Execution:
        """Records approve, reject or request_changes.

        Raises:
            NotFound, AlreadyDecided, Expired, Superseded: The request does not take decisions.
            SignatureInvalid, DigestMismatch: The statement is not a valid approval of it.
        """
        execution_id = await self.execution_id(approval_id, words.tenant)

        def events(state: Execution, now: datetime) -> commands.Events:
            told = commands.decide(
                state,
                approval_id,
                kind,
                words.person,
                words.reason,
                now,
                statement=words.statement.decode("utf-8", "replace"),
                signature=words.signature,
            )
            if kind == "approve":
                self._check_approval(state, state.approvals[approval_id], words, now)
                hit("approve.after_verify")
            return told

        state = await self._engine.command(execution_id, events)
        hit("approve.after_commit")
        return state

    async def edit(self, approval_id: str, source: bytes | Any, words: Words) -> Execution:
        """Replaces the plan by an edited one, which is judged anew.

        Raises:
            PlanInvalid: The edited plan has faults.
            InvalidTransition: It touches a step that has started.
        """
        execution_id = await self.execution_id(approval_id, words.tenant)
        state = await self._engine.execution(execution_id)
        revision = len(state.revisions) + 1
        judged = await self._planner.judge(
            source, words.tenant, plan_id=state.compiled.plan_id, revision=revision
        )
        self._planner.require_agents(judged.compiled, words.tenant)

        def events(state: Execution, now: datetime) -> commands.Events:
            if len(state.revisions) + 1 != revision:
                raise DigestMismatch("the plan was edited by someone else meanwhile: look again")
            return _edit_events(state, approval_id, judged, words, now)

        return await self._engine.command(execution_id, events)

    async def resolve(
        self, execution_id: str, step_id: str, resolution: str, words: Words
    ) -> Execution:
        """Records what a person decided about an unknown outcome."""

        def events(state: Execution, now: datetime) -> commands.Events:
            if state.tenant != words.tenant:
                raise NotFound(f"there is no execution {execution_id}")
            told = commands.resolve_unknown(
                state,
                step_id,
                resolution,
                words.person,
                words.reason,
                statement=words.statement.decode("utf-8", "replace"),
                signature=words.signature,
            )
            if resolution == "retry" and state.compiled_step(step_id).changes:
                self._check_resolution(state, step_id, words, now)
            hit("resolve.before_commit")
            return told

        state = await self._engine.command(execution_id, events)
        hit("resolve.after_commit")
        return state

    async def execution_id(self, approval_id: str, tenant: str) -> str:
        """Returns the execution a request belongs to. Raises NotFound, also for other tenants'."""
        row = await self._store.approval(approval_id)
        if row is None or row.tenant != tenant:
            raise NotFound(f"there is no approval request {approval_id}")
        return row.execution_id

    def _check_approval(
        self, state: Execution, request: Approval, words: Words, now: datetime
    ) -> None:
        said = self._verified(words, now)
        if not isinstance(said, ApprovalStatement):
            raise InvalidArgument("the statement is not an approval")
        missing = [step_id for step_id in request.step_ids if not said.covers(step_id)]
        wrong = [
            f"{name} {found!r} where {wanted!r} is asked for"
            for name, found, wanted in (
                ("tenant", said.tenant, state.tenant),
                ("execution", said.execution_id, state.execution_id),
                ("plan digest", said.plan_digest, request.plan_digest),
                ("steps without", ", ".join(missing), ""),
            )
            if found != wanted
        ]
        if wrong:
            raise DigestMismatch("the statement names " + "; ".join(wrong))

    def _check_resolution(
        self, state: Execution, step_id: str, words: Words, now: datetime
    ) -> None:
        if not words.statement:
            raise InvalidArgument(
                "running a change again needs a signed resolution: use `opsctl runs resolve`"
            )
        said = self._verified(words, now)
        attempt_id = state.steps[step_id].attempt_ids[-1]
        if not isinstance(said, ResolutionStatement) or (
            said.tenant,
            said.execution_id,
            said.step_id,
            said.attempt_id,
        ) != (state.tenant, state.execution_id, step_id, attempt_id):
            raise DigestMismatch(f"the statement does not name attempt {attempt_id} of {step_id}")

    def _verified(self, words: Words, now: datetime) -> ApprovalStatement | ResolutionStatement:
        from opsconductor.rpc.sshsig import SignatureRejected, verify

        if not words.statement or not words.signature:
            raise SignatureInvalid("an approval carries a signed statement: none was given")
        try:
            said = parse_statement(words.statement)
            verify(
                words.statement,
                words.signature,
                namespace=NAMESPACE,
                signers=self._signers(),
                principal=words.person,
                at=now,
            )
        except StatementInvalid as exc:
            raise SignatureInvalid(str(exc)) from exc
        except SignatureRejected as exc:
            raise SignatureInvalid(f"{exc.code}: {exc}") from exc
        if said.approver != words.person:
            raise SignatureInvalid(f"the statement is {said.approver}'s, the caller {words.person}")
        if not said.valid_at(now):
            raise SignatureInvalid(
                f"the statement holds from {said.not_before} to {said.not_after}; it is {now}"
            )
        return said


def _edit_events(
    state: Execution, approval_id: str, judged: Judged, words: Words, now: datetime
) -> tuple[ev.Event, ...]:
    return commands.edit(
        state,
        approval_id,
        words.person,
        words.reason,
        judged.document,
        judged.compiled.to_json(),
        touched_steps(state.compiled, judged.compiled),
        now,
    )


def touched_steps(old: CompiledPlan, new: CompiledPlan) -> set[str]:
    """Returns the steps an edit adds, removes or alters, and all that depend on those."""
    before = {step.step_id: step.digest for step in (*old.steps, *old.rollback)}
    after = {step.step_id: step.digest for step in (*new.steps, *new.rollback)}
    touched = {
        step_id
        for step_id in before.keys() | after.keys()
        if before.get(step_id) != after.get(step_id)
    }
    while True:
        more = {
            step.step_id
            for step in new.steps
            if step.step_id not in touched and touched.intersection(step.needs)
        }
        if not more:
            return touched
        touched |= more
