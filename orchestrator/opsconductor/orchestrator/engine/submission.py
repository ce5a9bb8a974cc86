"""Submission: a plan becomes an execution, once per request id."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.engine.admission import Admission
from opsconductor.orchestrator.engine.limits import Limits
from opsconductor.rpc import canonical, ids
from opsconductor.rpc.errors import (
    NotFound,
    OpsConductorError,
    RequestIdReused,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from opsconductor.orchestrator.domain.executions.execution import Execution
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.planning import Planner
    from opsconductor.orchestrator.store.store import Store
    from opsconductor.rpc.errors import Fault


RETRY_AFTER = timedelta(seconds=1)
"""When to ask again for what the store did not answer."""


@dataclass(frozen=True)
class Submission:
    """What a caller asks to be run."""

    source: bytes | Any
    tenant: str
    requester: str
    submitted_by: str
    request_id: str = ""
    external_id: str = ""
    traceparent: str = ""
    asked: str = ""
    """What was asked for where the plan is made of it; by this a repetition is known, else by the
    plan."""


@dataclass(frozen=True)
class Accepted:
    """The execution of a submission."""

    execution: Execution
    already: bool
    warnings: tuple[Fault, ...] = ()


class Submissions:
    """Accepts plans."""

    def __init__(
        self,
        store: Store,
        planner: Planner,
        engine: Engine,
        clock: Callable[[], datetime],
        limits: Limits | None = None,
    ) -> None:
        self._store = store
        self._planner = planner
        self._engine = engine
        self._clock = clock
        self._admission = Admission(store, engine, planner.fleet, clock, limits or Limits())

    async def submit(self, submission: Submission) -> Accepted:
        """Starts an execution; the same request id gives the first one again.

        Raises:
            PlanInvalid: The plan has faults.
            NoAgent: A step's target cannot be reached by any known agent.
            RequestIdReused: The request id was used for another plan.
            QueueFull: So much is waiting that nothing more is taken; nothing was stored.
            StoreUnavailable: The store did not answer. The same request id tells what became of it.
        """
        try:
            return await self._start(submission)
        except StoreUnavailable as exc:
            exc.retry_after = exc.retry_after or RETRY_AFTER
            raise
        except OpsConductorError:
            # Looked up only now: nearly every key is new, and the store refuses one that is not.
            if earlier := await self.earlier(submission):
                return earlier
            raise

    async def earlier(self, submission: Submission) -> Accepted | None:
        """Returns what the same request started before.

        Raises:
            RequestIdReused: The request id was used for another plan.
        """
        if not submission.request_id:
            return None
        row = await self._store.execution_by_request(submission.tenant, submission.request_id)
        if row is None:
            return None
        if row.request_hash != _fingerprint(submission):
            raise RequestIdReused(
                f"request_id {submission.request_id} was used for execution "
                f"{row.execution_id} with another plan; use a new request_id to run this one",
                metadata={"execution_id": row.execution_id},
            )
        return Accepted(await self._engine.execution(row.execution_id), already=True)

    async def _start(self, submission: Submission) -> Accepted:
        judged = await self._planner.judge(submission.source, submission.tenant)
        self._planner.require_agents(judged.compiled, submission.tenant)
        await self._admission.admit(submission.tenant, judged.compiled.steps)
        trace_id, parent = _trace(submission.traceparent)
        event = ev.Submitted(
            execution_id=ids.mint("exec", self._clock()),
            tenant=submission.tenant,
            external_id=submission.external_id,
            plan_document=judged.document,
            compiled=judged.compiled.to_json(),
            requester=submission.requester,
            submitted_by=submission.submitted_by,
            trace_id=trace_id,
            span_id=secrets.token_hex(8),
            parent_span_id=parent,
            request_id=submission.request_id,
            request_hash=_fingerprint(submission),
        )
        try:
            state = await self._engine.begin(event)
        except StoreUnavailable:
            if not await self._arrived(event.execution_id):
                raise
            state = await self._engine.execution(event.execution_id)
        return Accepted(state, already=False, warnings=judged.warnings)

    async def _arrived(self, execution_id: str) -> bool:
        """Tells whether a commit whose end was not seen was written, and goes on with it then.

        While the store does not answer, the engine finds that out later.
        """
        try:
            await self._engine.execution(execution_id)
        except (NotFound, StoreUnavailable):
            return False
        await self._engine.take_over(execution_id)
        return True


def _fingerprint(submission: Submission) -> str:
    source = submission.asked or submission.source
    data = source if isinstance(source, bytes) else canonical.dumps(source)
    return hashlib.sha256(data + b"\0" + submission.external_id.encode()).hexdigest()


def _trace(traceparent: str) -> tuple[str, str]:
    """Returns (trace id, parent span id): the caller's, or a fresh trace without a parent.

    Form: https://www.w3.org/TR/trace-context/#traceparent-header
    """
    parts = traceparent.split("-")
    if len(parts) == 4 and _hex(parts[1], 32) and _hex(parts[2], 16):
        return parts[1], parts[2]
    return secrets.token_hex(16), ""


def _hex(text: str, length: int) -> bool:
    return len(text) == length and set(text) <= set("0123456789abcdef") and set(text) != {"0"}
