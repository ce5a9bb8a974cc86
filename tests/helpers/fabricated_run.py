"""The evidence of a chaos run that never was, for the tests of its checker."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from chaos.checker import check
from chaos.evidence import Evidence, Happened
from chaos.evidence import Story as Told
from chaos.program import stream
from helpers.plans import Story, compiled, restart
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.plans.policy import EMBEDDED_POLICY
from opsconductor.orchestrator.engine import log
from opsconductor.rpc import sshsig
from opsconductor.rpc.statements import NAMESPACE, approval_statement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Fabricated:
    """A run that never was: two changes, approved with a real signature, both completed."""

    def __init__(self, folder: Path, key: tuple[bytes, str]) -> None:
        self.folder = folder
        self.private, self.public = key
        (folder / "allowed_signers").write_text(f"rita {self.public}\n")
        self.ledger: list[dict[str, Any]] = []
        self.world: list[dict[str, Any]] = [{"what": "world", "lease": 2.0, "wall": 0.0}]
        self.output: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
        self.journal: list[dict[str, Any]] = [{"t": "journal"}, {"t": "epoch", "epoch": 1}]
        self.survivors: dict[str, str] = {}
        steps = (restart("one"), restart("two"))
        self.story = Story(compiled(*steps, policy=EMBEDDED_POLICY))
        self.wall = self.story.now.timestamp()

    def approve(self, execution_id: str = "exec_1") -> Fabricated:
        request = self.story.asked()
        statement = approval_statement(
            tenant="default",
            execution_id=execution_id,
            plan_digest=request.plan_digest,
            steps=list(request.step_ids),
            approver="rita",
            not_before=self.story.now,
            not_after=self.story.now.replace(hour=self.story.now.hour + 1),
        )
        signature = sshsig.sign(statement, self.private, NAMESPACE)
        told = commands.decide(
            self.story.state,
            *(request.approval_id, "approve", "rita", "", self.story.now),
            statement=statement.decode(),
            signature=signature,
        )
        self.story.happen(*told)
        return self

    def run(
        self,
        step_id: str,
        *,
        state: str = "completed",
        keep: Callable[[bytes], bytes] = bytes,
        **fields: Any,
    ) -> str:
        """Lets a step start and end as it should; returns its attempt."""
        attempt_id = self.story.live(step_id).attempt_id
        printed = keep(stream(attempt_id, 200))
        digest = hashlib.sha256(printed).hexdigest()
        self.started(attempt_id, step_id)
        self.ended(attempt_id, step_id)
        self.output[attempt_id, 1] = [(0, printed)]
        sums = {"stdout_bytes": len(printed), "stdout_sha256": digest}
        effects = fields.pop("effects", "done" if state == "completed" else "possible")
        self.story.end(step_id, state, effects=effects, **sums, **fields)
        self.remembered(attempt_id, state)
        return attempt_id

    def started(self, attempt_id: str, step_id: str, **fields: Any) -> None:
        self._write("start", attempt_id, step_id, overlap=False, bytes=200, **fields)

    def ended(self, attempt_id: str, step_id: str, code: int = 0) -> None:
        self._write("end", attempt_id, step_id, exit=code)

    def remembered(self, attempt_id: str, state: str, **fields: Any) -> None:
        report = {"attempt_id": attempt_id, "state": state, "session_epoch": 1}
        self.journal.append({"t": "entry", "report": report, "started": True, **fields})

    def _write(self, what: str, attempt_id: str, step_id: str, **fields: Any) -> None:
        self.ledger.append(
            {
                **{"t": what, "attempt": attempt_id, "step": step_id, "key": f"k.{step_id}"},
                **{"execution": "exec_1", "role": "change", "wall": self.wall, **fields},
            }
        )

    def evidence(self) -> Evidence:
        state = self.story.state
        stored, head = log.chain("", "exec_1", self.story.log)
        events = [
            Happened(
                *("exec_1", item.seq, item.type, item.time.timestamp()),
                *(int(item.time.timestamp() * 1e6), item.data, item.hash),
            )
            for item in stored
        ]
        row = {"state": str(state.state), "last_seq": len(stored), "head_hash": head}
        attempts = {
            attempt.attempt_id: {
                "attempt_id": attempt.attempt_id,
                "execution_id": "exec_1",
                "step_id": attempt.step_id,
                "state": str(attempt.state),
            }
            for attempt in state.attempts.values()
        }
        return Evidence(
            folder=self.folder,
            ledger=self.ledger,
            stories={"exec_1": Told("exec_1", events, row)},
            attempts=attempts,
            output=self.output,
            agents={},
            journals={"agent-local": self.journal},
            world=self.world,
            survivors=self.survivors,
        )

    def broken(self, evidence: Evidence | None = None) -> set[str]:
        return {each.invariant for each in check(evidence or self.evidence())}
