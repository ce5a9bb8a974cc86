"""People and programs at work: they submit, approve, cancel, and settle what is unknown."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from chaos.plans import KINDS
from opsconductor.client.words import attempt_word, execution_word
from opsconductor.rpc.errors import InvalidTransition, NotFound, OpsConductorError, PlanInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chaos.world import World
    from opsconductor.client.sync_client import SyncClient
    from opsconductor.v1.execution_service_pb2 import Execution

PATIENCE = 60.0
ENDED = frozenset(
    {
        *("completed", "failed", "timed_out", "unreachable", "cancelled", "cancel_unverified"),
        *("rejected", "expired", "rolled_back", "rollback_failed"),
    }
)


class Workload:
    """Keeps a list of everything the orchestrator has said yes to."""

    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._random = random
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(6, thread_name_prefix="workload")
        self._jobs: list[Future[None]] = []
        self._numbers = 0
        self._closing = False
        self.submitted: dict[str, str] = {}
        """Executions that were accepted, and their kind."""
        self._settled: set[str] = set()

    def begin(self, kinds: Iterable[str], round_: int) -> None:
        """Starts plans of some kinds in the background."""
        for kind in kinds:
            self._numbers += 1
            key = f"r{round_}.{self._numbers}.{kind}"
            random = Random(self._random.getrandbits(64))
            self._jobs.append(self._pool.submit(self._carry, kind, key, round_, random))

    def finish(self, round_: int, seconds: float) -> list[str]:
        """Waits until all is settled, deciding what needs a person; returns what is not."""
        deadline = time.monotonic() + seconds + len(self._jobs) / 2
        failures = [job for job in self._jobs if not self._done(job, deadline)]
        self._jobs = []
        for job in failures:
            self._world.note("workload", error=repr(job.exception(0)) if job.done() else "slow")
        waiting = {id for id in self.submitted if id not in self._settled}
        while waiting:
            self._world.revive()
            with contextlib.suppress(OpsConductorError, OSError), self._world.client() as client:
                for execution_id in list(waiting):
                    if self._settle(client, execution_id):
                        waiting.discard(execution_id)
                        self._settled.add(execution_id)
            if time.monotonic() > deadline:
                break
            if waiting:
                time.sleep(0.05)
        for execution_id in waiting:
            self._settled.add(execution_id)
            self._world.note("unsettled", execution=execution_id, round=round_)
        return sorted(waiting)

    def close(self) -> None:
        """Ends the threads."""
        self._closing = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _done(self, job: Future[None], deadline: float) -> bool:
        """Waits for a job, reviving what is needed for it; tells whether it did what it should."""
        while not job.done() and time.monotonic() < deadline:
            self._world.revive()
            wait([job], timeout=0.2)
        return job.done() and job.exception() is None

    # One plan

    def _carry(self, kind: str, key: str, round_: int, random: Random) -> None:
        plan = KINDS[kind](key, random)
        self._world.note("submitting", kind=kind, key=key, round=round_)
        with self._world.client() as client:
            answer = self._patiently(lambda: client.submit(plan, request_id=key))
            execution_id = answer.execution.execution_id
            with self._lock:
                self.submitted[execution_id] = kind
            self._world.note("submitted", execution=execution_id, kind=kind, key=key, round=round_)
            for approval_id in answer.execution.pending_approval_ids:
                self._patiently(partial(self._approve, client, approval_id))
                self._world.note("approved", approval=approval_id, execution=execution_id)
            if kind == "cancel":
                time.sleep(random.uniform(0.0, 1.5))
                self._patiently(lambda: client.cancel(execution_id, request_id=f"{key}.cancel"))
                self._world.note("cancel", execution=execution_id)

    def _approve(self, client: SyncClient, approval_id: str) -> None:
        try:
            client.approve(approval_id, self._world.context.signer())
        except OpsConductorError as error:
            # An answer that was lost: it is decided, or the execution has ended meanwhile.
            if error.reason not in ("ALREADY_DECIDED", "SUPERSEDED", "INVALID_TRANSITION"):
                raise

    def _patiently(self, act: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return act()
            except (OpsConductorError, OSError) as error:
                if self._closing or time.monotonic() > deadline or isinstance(error, PlanInvalid):
                    raise
                self._world.note("refused", error=f"{type(error).__name__}: {error}"[:300])
                time.sleep(0.1)

    # People who look after it

    def _settle(self, client: SyncClient, execution_id: str) -> bool:
        try:
            execution = client.get(execution_id)
        except NotFound:
            return True  # gone with a store that was restored, or the checker will tell
        state = execution_word(execution.state)
        if state in ENDED:
            # What was acknowledged and then lost with the store, nobody has any more.
            return self._world.restored or all(
                _whole(attempt) for step in execution.steps for attempt in step.attempts
            )
        if state == "approval_required" and self._world.restored:
            for approval_id in execution.pending_approval_ids:
                self._approve(client, approval_id)
            return False
        return state == "attention_required" and not self._resolve(client, execution)

    def _resolve(self, client: SyncClient, execution: Execution) -> bool:
        """Decides about unknown ends by what the ledger says, as a person looks at the target.

        Returns whether anything was decided; what cannot be is left to a person.
        """
        decided = False
        starts, ends = self.ledger()
        for step in execution.steps:
            last = step.attempts[-1] if step.attempts else None
            if last is None or attempt_word(last.state) != "unknown":
                continue
            if last.attempt_id in ends:
                word = "completed" if ends[last.attempt_id] == 0 else "failed"
            else:
                word = "failed" if last.attempt_id in starts else "retry"
            signer = self._world.context.signer() if word == "retry" else None
            id = execution.execution_id
            try:
                client.resolve_unknown(id, step.step_id, word, "the ledger says so", signer=signer)
            except InvalidTransition as error:
                self._world.note("left to a person", execution=id, error=error.message)
                continue
            self._world.note("resolved", execution=id, step=step.step_id, word=word)
            decided = True
        return decided

    def ledger(self) -> tuple[set[str], dict[str, int]]:
        """Returns the attempts that have started and how those ended that did."""
        starts: set[str] = set()
        ends: dict[str, int] = {}
        if self._world.ledger.exists():
            for line in self._world.ledger.read_text().splitlines():
                entry = json.loads(line)
                if entry["t"] == "start":
                    starts.add(entry["attempt"])
                else:
                    ends[entry["attempt"]] = entry["exit"]
        return starts, ends


def _whole(attempt: Any) -> bool:
    """Tells whether the output that an attempt declared has arrived."""
    return not attempt.HasField("end_time") or attempt.output_complete
